"""A classifier that answers by a fixed rule, and the files of a folder, for the tests of maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from esccs_edge.contracts.values import NODATA_LABEL, Gate, Prediction
from support.tiny import tiny_manifest

MANIFEST = tiny_manifest(8)


class FakeClassifier:
    """Answers by a fixed rule of the pixels, so that a plain loop can repeat it."""

    def __init__(self, manifest=MANIFEST, fail_at=None, error=None):
        self.manifest = manifest
        self.fail_at, self.error = fail_at, error

    def answer(self, optical, sar):
        if _is_absent(optical, 0) and _is_absent(sar, np.nan):
            zeros = dict.fromkeys(self.manifest.classes, 0.0)
            return Prediction(NODATA_LABEL, 0.0, zeros, Gate(0.0, 0.0))
        seed = 0 if optical is None else int(optical.astype(np.int64).sum())
        seed += 0 if sar is None else int(abs(np.nan_to_num(sar).sum()) * 1000)
        rng = np.random.default_rng(seed)
        p = rng.dirichlet(np.ones(len(self.manifest.classes)))
        gate = rng.random()
        probabilities = dict(zip(self.manifest.classes, p.tolist(), strict=True))
        best = max(probabilities, key=probabilities.get)
        return Prediction(best, float(p.max()), probabilities, Gate(gate, 1 - gate))

    def stream(self, pairs):
        for i, (optical, sar) in enumerate(pairs):
            if self.fail_at is not None and i >= self.fail_at:
                yield self.error
            else:
                yield self.answer(optical, sar)


def _is_absent(pixels, value):
    if pixels is None:
        return True
    return bool(np.isnan(pixels).all() if np.isnan(value) else (pixels == value).all())


def everything_in(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} | {
        p.name: b"" for p in folder.iterdir() if p.is_dir()
    }
