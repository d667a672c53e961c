"""A season of small optical and SAR rasters with gaps, and models that answer by a fixed rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.tasks.series_classification import SeriesPrediction
from esccs_edge.contracts.tasks.series_segmentation import SeriesSegmentation
from esccs_edge.contracts.values import Gate
from support.rasters import write_raster

#: Of `season_images`, one a month of the calendar of `series_manifest`; none in other months.
OPTICAL_DAYS = ("2021-09-03", "2021-11-20", "2021-11-28", "2022-04-01")
SAR_DAYS = ("2021-09-05", "2021-10-05", "2022-08-31")


def season_images(height: int, width: int) -> dict[str, dict[str, np.ndarray]]:
    """Return sensor -> day -> pixels; a corner of each optical image is absent."""
    rng = np.random.default_rng(1)
    optical = {}
    for i, day in enumerate(OPTICAL_DAYS):
        optical[day] = rng.integers(200, 5000, (3, height, width)).astype(np.uint16)
        optical[day][:, : 2 * i, :5] = 0
    sar = {day: rng.normal(-14, 3, (2, height, width)).astype(np.float32) for day in SAR_DAYS}
    return {"optical": optical, "sar": sar}


def write_season(folder: Path, images: dict[str, dict[str, np.ndarray]]) -> Path:
    """Write images under names that tell sensor and day."""
    folder.mkdir(exist_ok=True)
    for sensor, days in images.items():
        for day, pixels in days.items():
            write_raster(folder / f"{sensor}_{day.replace('-', '')}.tif", pixels)
    return folder


class FakeSeriesModel:
    """Knows a sample by its numbers: what it says of a pixel depends on its series alone."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.samples: list[dict] = []

    def stream(self, samples):
        for sample in samples:
            self.samples.append(sample)
            yield self.answer(sample)

    def answer(self, sample):
        label = self.labels(sample)
        names = self.manifest.classes
        if label.shape == (1, 1):
            shares = {name: float(i == label[0, 0]) for i, name in enumerate(names)}
            return SeriesPrediction(
                names[label[0, 0]], 1.0, shares, Gate(0.25, 0.75), frozenset(), {}
            )
        scores = np.stack([np.uint8(255) * (label == i) for i in range(len(names))])
        sure = np.full(label.shape, 100, np.uint8)
        return SeriesSegmentation(label.astype(np.uint8), sure, scores, names, frozenset(), {})

    def labels(self, sample) -> np.ndarray:
        """Return ``(H, W)`` class numbers of ``(C, T, H, W)``."""
        total = np.zeros(1, np.int64)
        for pixels in sample.values():
            if pixels is not None:
                slots = np.arange(1, pixels.shape[1] + 1)[None, :, None, None]
                whole = np.rint(np.nan_to_num(pixels)).astype(np.int64)
                total = total + (whole * slots).sum(axis=(0, 1))
        return total % len(self.manifest.classes)
