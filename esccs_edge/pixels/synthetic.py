"""Random raw pixels in the form a manifest asks for, where only time is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.manifest import Manifest
from ..contracts.modality import ModalitySpec
from ..contracts.values import PatchPair


def random_pairs(manifest: Manifest, count: int) -> list[PatchPair]:
    """Return pairs of random digital numbers (or physical values); the same at every call."""
    rng = np.random.default_rng(0)
    size = manifest.sample.height
    return [
        PatchPair(
            _random(manifest.modalities["optical"], size, rng),
            _random(manifest.modalities["sar"], size, rng),
        )
        for _ in range(count)
    ]


def _random(spec: ModalitySpec, size: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    shape = (len(spec.channels), size, size)
    if spec.dn_scale is not None:
        return rng.integers(200, 6000, shape, np.uint16)
    return rng.uniform(*spec.clip, shape).astype(np.float32)
