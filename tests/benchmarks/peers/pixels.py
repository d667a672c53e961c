"""Raw pixels to time peers with, in files that all of them map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.pixels.synthetic import smooth_samples


def write_pixels(folder: Path, manifest: Manifest, count: int) -> Path:
    """Write ``optical.npy`` and ``sar.npy``, ``(count, channels, H, W)``; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = smooth_samples(manifest, count)
    for name in manifest.modalities:
        np.save(folder / f"{name}.npy", np.stack([sample.pixels[name] for sample in samples]))
    return folder
