"""Raw pixels to time peers with, in files that all of them map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from esccs_edge.bench.pixels import timed_samples
from esccs_edge.contracts.manifest import Manifest


def write_pixels(folder: Path, manifest: Manifest, count: int) -> Path:
    """Write ``optical.npy`` and ``sar.npy``, ``(count, channels, H, W)``; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = timed_samples(manifest, count)
    for name in manifest.modalities:
        np.save(folder / f"{name}.npy", np.stack([sample.pixels[name] for sample in samples]))
    return folder
