"""What is timed: real pixels for models that read the example scene, smooth ones for others.

Real ones matter: a patch whose values look wrong is looked at more closely, which takes longer.
"""

from __future__ import annotations

import numpy as np

from ..contracts.manifest import Manifest
from ..contracts.modality import ModalitySpec
from ..contracts.sensors import SENTINEL2_L1C_BANDS
from ..contracts.types import Array
from ..contracts.values import Sample
from ..example import example_scene
from ..pixels.synthetic import smooth_samples

_SAR_CHANNELS = ("VV", "VH")


def timed_samples(manifest: Manifest, count: int) -> list[Sample]:
    """Return samples to time a model with; the same at every call.

    Real ones are parts of the example scene, which begins anew where it ends.
    """
    if not reads_example(manifest):
        return smooth_samples(manifest, count)
    scene, rng = example_scene(), np.random.default_rng(3)
    found = []
    for corner in rng.integers(0, scene.sar.shape[1:], (count, 2)).tolist():
        part = {
            name: _part(pixels, corner, manifest.sample.grid)
            for name, pixels in (("optical", scene.optical), ("sar", scene.sar))
        }
        found.append(Sample(part))
    return found


def reads_example(manifest: Manifest) -> bool:
    """Return whether a model reads pairs like those of the example scene, as they are stored."""
    wanted = {"optical": SENTINEL2_L1C_BANDS, "sar": _SAR_CHANNELS}
    channels = {name: spec.channels for name, spec in manifest.modalities.items()}
    return (
        channels == wanted
        and manifest.sample.dates is None
        and _is_stored_alike(manifest.modalities["optical"], manifest.modalities["sar"])
    )


def _is_stored_alike(optical: ModalitySpec, sar: ModalitySpec) -> bool:
    return (
        (optical.unit, optical.dn_scale, optical.dn_offset) == ("reflectance", 1e-4, 0)
        and sar.unit == "dB"
        and not sar.is_linear
    )


def _part(pixels: Array, corner: list[int], grid: tuple[int, int]) -> Array:
    rows, columns = (
        (start + np.arange(size)) % length
        for start, size, length in zip(corner, grid, pixels.shape[1:], strict=True)
    )
    return np.ascontiguousarray(pixels[:, rows[:, None], columns])
