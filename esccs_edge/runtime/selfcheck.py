"""A fixed synthetic pair whose answer must not change while a classifier lives.

A damaged weight in memory or a driver gone bad still answers, only wrongly; the same question,
asked again, shows it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest, ModalitySpec
from ..contracts.values import PatchPair, Prediction
from ..pixels.synthetic import waves

#: Largest change of a probability or gate weight that is still the same answer. Low-precision
#: arithmetic may round differently when the pair shares its batch with others.
SELF_CHECK_ATOL = 0.02


def golden_pair(manifest: Manifest, *, sar_is_linear: bool = False) -> PatchPair:
    """Return waves of one standard deviation around each channel's mean, as a station sends them.

    Optical pixels are digital numbers where the manifest tells what they mean and they can hold the
    waves.
    """
    optical, sar = (waves(spec, manifest.patch_size) for spec in (manifest.optical, manifest.sar))
    if sar_is_linear:
        sar = np.power(10.0, sar / 10.0, dtype=np.float32)
    numbers = _digital_numbers(optical, manifest.optical)
    return PatchPair(optical if numbers is None else numbers, sar)


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


def is_same_answer(first: Prediction, second: Prediction) -> bool:
    """Tell whether two answers agree in label, probabilities and gate."""
    return first.label == second.label and np.allclose(
        _numbers(first), _numbers(second), rtol=0, atol=SELF_CHECK_ATOL
    )


def _numbers(answer: Prediction) -> list[float]:
    return [*answer.probabilities.values(), answer.gate.optical, answer.gate.sar]
