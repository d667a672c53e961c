"""A fixed synthetic sample whose answer must not change while a model lives.

A damaged weight in memory or a driver gone bad still answers, only wrongly; the same question,
asked again, shows it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest
from ..contracts.modality import ModalitySpec
from ..contracts.types import Array
from ..contracts.values import Sample
from ..pixels.synthetic import waves


def golden_sample(manifest: Manifest) -> Sample:
    """Return waves of one standard deviation around each channel's mean, as a station sends them.

    Pixels are digital numbers where the manifest says what they mean and they can hold the waves.
    """
    grid = manifest.sample.grid
    return Sample({name: _stored(spec, grid) for name, spec in manifest.modalities.items()})


def _stored(spec: ModalitySpec, grid: tuple[int, int]) -> Array:
    values = waves(spec, grid)
    numbers = None if spec.is_linear else _digital_numbers(values, spec)
    return spec.stored_floats(values) if numbers is None else numbers


def _digital_numbers(
    values: npt.NDArray[np.float32], spec: ModalitySpec
) -> npt.NDArray[np.uint16] | None:
    """Return values as 16-bit digital numbers; None where too little would be left of them."""
    if spec.dn_scale is None or spec.dn_scale > min(spec.std):
        return None
    numbers = np.rint(values / spec.dn_scale - spec.dn_offset)
    if numbers.min() < 0 or numbers.max() >= 2**16 or (numbers == spec.nodata).all(axis=0).any():
        return None
    return np.asarray(numbers, np.uint16)
