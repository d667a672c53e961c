"""Measures of label maps from one confusion matrix, NumPy only.

Of all pixels, and of those under clear and under cloudy sky (CloudSeg: Xu et al., 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, UNKNOWN_COVER, cloud_bin
from esccs_edge.contracts.types import Array, Doubles, Mask

from ..datasets.map_dataset import IGNORED

Matrix = npt.NDArray[np.int64]

#: Which pixels a measure is of; clear and cloudy need a cloud mask.
PIXELS = ("all", "clear", "cloudy")


def map_confusion(target: Array, answered: Array, classes: int) -> Matrix:
    """Count pixels by true class (rows, K) and answer (columns, K + 1; the last: no answer).

    Args:
        target: Class numbers; pixels that are `IGNORED` do not count.
        answered: Class numbers of the same shape; anything beyond K - 1 is no answer.
        classes: K.
    """
    counts = target != IGNORED
    truth = target[counts].astype(np.int64)
    found = np.minimum(answered[counts].astype(np.int64), classes)
    size = classes * (classes + 1)
    flat = np.bincount(truth * (classes + 1) + found, minlength=size)
    return flat.reshape(classes, classes + 1)


def map_measures(matrix: Matrix) -> dict[str, Any]:
    """Return the measures of a confusion matrix.

    Returns:
        ``pixels``, ``failed`` (without an answer, wrong), ``oa`` (overall accuracy),
        ``mean_accuracy`` (of the classes that occur), ``fwiou`` (IoU weighted by how often a class
        occurs), ``miou`` and ``iou`` by class; None without pixels, and for a class that neither
        occurs nor is answered, which the mean leaves out.
    """
    total = int(matrix.sum())
    found: dict[str, Any] = {"pixels": total, "failed": int(matrix[:, -1].sum())}
    if not total:
        return (
            found
            | dict.fromkeys(("oa", "mean_accuracy", "fwiou", "miou"), None)
            | {"iou": [None] * len(matrix)}
        )
    hits = np.diag(matrix).astype(np.float64)
    occurs = matrix.sum(axis=1)
    union = occurs + matrix[:, :-1].sum(axis=0) - hits
    iou = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
    share = occurs / total
    accuracy = hits[occurs > 0] / occurs[occurs > 0]
    return found | {
        "oa": float(hits.sum() / total),
        "mean_accuracy": float(accuracy.mean()),
        "fwiou": float((share[occurs > 0] * iou[occurs > 0]).sum()),
        "miou": float(np.nanmean(iou)),
        "iou": [None if np.isnan(value) else float(value) for value in iou],
    }


def miou(matrices: Doubles) -> Doubles:
    """Confusion matrices ``(..., K, K + 1)`` -> mIoU ``(...)``; NaN without pixels."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    union = matrices.sum(axis=-1) + matrices[..., :-1].sum(axis=-2) - hits
    iou = np.divide(hits, union, out=np.zeros(union.shape), where=union > 0)
    occurs = (union > 0).sum(axis=-1)
    found: Doubles = np.where(occurs > 0, iou.sum(axis=-1) / np.maximum(occurs, 1), np.nan)
    return found


class PixelCounts:
    """Confusion matrices by cloud cover of the sample and sky over the pixel.

    Args:
        classes: K.
        matrices: What is counted already; None: nothing.

    Attributes:
        matrices: ``(bins + 1, 3, K, K + 1)``: the last bin is that of unknown cover; the sky is
            clear, cloudy or unknown.
    """

    matrices: Matrix

    def __init__(self, classes: int, matrices: Matrix | None = None) -> None:
        self.classes = classes
        if matrices is not None:
            self.matrices = matrices
            return
        shape = (len(CLOUD_BINS) + 1, 3, classes, classes + 1)
        self.matrices = np.zeros(shape, np.int64)

    def add(self, target: Array, answered: Array, cloud: Mask | None, cover: float | None) -> None:
        """Count one sample.

        Args:
            target: ``(H, W)``.
            answered: ``(H, W)``.
            cloud: ``(H, W)``, or None where it is not known.
            cover: Share of the sample under cloud, or None.
        """
        place = len(CLOUD_BINS) if cover is None else cloud_bin(cover)
        if cloud is None:
            self.matrices[place, 2] += map_confusion(target, answered, self.classes)
            return
        for sky, part in enumerate((~cloud, cloud)):
            self.matrices[place, sky] += map_confusion(target[part], answered[part], self.classes)

    def report(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """Return ``{"overall": {pixels: measures}, "by_cloud": {bin: {pixels: measures}}}``.

        Bins are `CLOUD_BINS`, and ``"unknown"`` where samples are in it; classes are told apart
        over all of them. ``pixels`` are `PIXELS`.

        Args:
            names: Class names; ``iou`` is by name then.
        """
        bins = dict(zip((*CLOUD_BINS, UNKNOWN_COVER), self.matrices, strict=True))
        if not bins[UNKNOWN_COVER].any():
            del bins[UNKNOWN_COVER]
        overall = _by_sky(self.matrices.sum(axis=0))
        if names:
            for measures in overall.values():
                measures["iou"] = dict(zip(names, measures["iou"], strict=True))
        by_cloud = {name: _by_sky(part) for name, part in bins.items()}
        for part in by_cloud.values():
            for measures in part.values():
                del measures["iou"]
        return {"overall": overall, "by_cloud": by_cloud}


def _by_sky(matrices: Matrix) -> dict[str, dict[str, Any]]:
    parts = (matrices.sum(axis=0), matrices[0], matrices[1])
    return {name: map_measures(part) for name, part in zip(PIXELS, parts, strict=True)}
