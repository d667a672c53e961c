"""Preprocessing as a careful user of another runtime would write it, in NumPy.

It obeys the same contract as `esccs_edge.pixels.preprocess` (formula in `ModalitySpec`) and is kept
fast on purpose, so that no peer looks slow because of it: float32, in place, scale and statistics
folded into one factor and one term per channel, patch by patch so that a patch stays in the cache,
into arrays that are kept. It counts no clipped or non-finite pixels and refuses nothing; ours does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import ModalitySpec

Float = npt.NDArray[np.float32]


class NumpyPreprocess:
    """Raw pixels of one or both modalities -> the inputs of the network.

    Args:
        manifest: Contract of the model.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._specs, self._width = manifest.modalities, manifest.sample.width
        self._kept: dict[str, Float] = {}

    def __call__(self, optical: npt.NDArray[Any], sar: npt.NDArray[Any]) -> dict[str, Float]:
        """Return ``optical (N, C, H, W)``, ``sar (N, P, H, W)`` and ``availability (N, 2)``.

        The next call with as many pairs overwrites them.
        """
        return self.of({"optical": optical, "sar": sar})

    def of(self, pixels: Mapping[str, npt.NDArray[Any]]) -> dict[str, Float]:
        """Return the inputs for arrays ``(N, C, ...)`` by name; dates stand above each other."""
        count = len(next(iter(pixels.values())))
        availability = self._array("availability", (count, len(self._specs)))
        inputs = {}
        for column, (name, spec) in enumerate(self._specs.items()):
            stored = pixels[name].reshape(count, len(spec.channels), -1, self._width)
            inputs[name] = self._array(name, stored.shape)
            _normalize(stored, spec, inputs[name], availability[:, column])
        return {**inputs, "availability": availability}

    def _array(self, name: str, shape: tuple[int, ...]) -> Float:
        if name not in self._kept or self._kept[name].shape != shape:
            self._kept[name] = np.empty(shape, np.float32)
        return self._kept[name]


def _normalize(
    stored: npt.NDArray[Any], spec: ModalitySpec, out: Float, availability: Float
) -> None:
    """Write normalized patches to ``out`` and their share of valid pixels."""
    scale, offset = (spec.dn_scale or 1.0, spec.dn_offset) if _is_dn(stored) else (1.0, 0.0)
    low, high = (np.float32(bound / scale - offset) for bound in spec.clip)
    mean, std = (np.asarray(values).reshape(-1, 1, 1) for values in (spec.mean, spec.std))
    factor = (scale / std).astype(np.float32)
    term = ((offset * scale - mean) / std).astype(np.float32)
    for position, (patch, row) in enumerate(zip(stored, out, strict=True)):
        row[:] = patch
        np.clip(row, low, high, out=row)
        row *= factor
        row += term
        valid = _valid(patch, spec.nodata)
        availability[position] = np.count_nonzero(valid) / valid.size
        if availability[position] < 1:
            row[:, ~valid] = 0


def _valid(patch: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.bool_]:
    valid = np.ones(patch.shape[1:], np.bool_)
    if nodata is not None:
        stored = patch if nodata == 0 else patch != nodata
        np.any(stored, axis=0, out=valid)
    if not _is_dn(patch):
        valid &= np.isfinite(patch).all(axis=0)
    return valid


def _is_dn(pixels: npt.NDArray[Any]) -> bool:
    return pixels.dtype.kind in "iu"
