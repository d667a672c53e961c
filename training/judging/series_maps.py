"""Label maps of image series: counted into one confusion matrix per missing rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import default_collate

from esccs_edge.contracts.types import Doubles

from ..datasets.stored_samples import StoredSample
from ..samples.series_samples import FixedGaps
from ..stages.series.shown import kept
from .metrics import cohen_kappa, confusion_matrix, overall_accuracy
from .series_scores import RATES
from .temperature import fit_temperature

if TYPE_CHECKING:
    from ..stages.series.segmentation_run import SegmentationRun

#: Pixels of each map that the temperature is fitted on.
TEMPERATURE_PIXELS = 2000


def judge_maps(run: SegmentationRun, net: nn.Module) -> tuple[dict[str, Any], float]:
    """Return ``{"test": {"student": {rate: measures}}}`` and the temperature."""
    found = {
        f"{rate:g}": map_measures(_confusion(run, net, rate), run.dataset.classes) for rate in RATES
    }
    logits, labels = [], []
    for answers, target in _answers(run, net, "val", 0.0):
        flat = answers.reshape(len(answers), -1).T
        rows = np.random.default_rng(0).permutation(len(flat))[:TEMPERATURE_PIXELS]
        logits.append(flat[rows])
        labels.append(target.reshape(-1)[rows])
    known = np.concatenate(labels) >= 0
    temperature = fit_temperature(np.concatenate(logits)[known], np.concatenate(labels)[known])
    return {"test": {"student": found}}, temperature


def map_measures(matrix: npt.NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return overall accuracy, kappa, and IoU and F1 of each class and on average.

    Args:
        matrix: As `metrics.confusion_matrix` counts pixels.
        classes: K names.

    Returns:
        ``{oa, kappa, miou, mean_f1, iou: {class: ...}, f1: {class: ...}, pixels}``; a class that
        neither stands in the labels nor in the answers has None and does not count.
    """
    hits = np.diag(matrix).astype(np.float64)
    sizes = matrix.sum(axis=1) + matrix[:, : len(matrix)].sum(axis=0)
    seen = sizes > 0
    iou = np.divide(hits, sizes - hits, out=np.full(len(hits), np.nan), where=seen)
    f1 = np.divide(2 * hits, sizes, out=np.full(len(hits), np.nan), where=seen)
    return {
        "oa": overall_accuracy(matrix),
        "kappa": cohen_kappa(matrix),
        "miou": float(np.nanmean(iou)),
        "mean_f1": float(np.nanmean(f1)),
        "iou": _by_class(iou, classes),
        "f1": _by_class(f1, classes),
        "pixels": int(matrix.sum()),
    }


def held_out_maps(run: SegmentationRun) -> Iterator[StoredSample]:
    """Yield the validation and test series as they are."""
    for index, split in enumerate(run.dataset.splits):
        if split == "train":
            continue
        raw = run.dataset.series(index)
        shown = {
            name: np.ascontiguousarray(pixels).reshape(len(pixels), -1, pixels.shape[-1])
            for name, pixels in raw.items()
        }
        target = run.dataset.target(index).astype(np.int16)
        yield StoredSample(
            f"{split}-{index}", shown, target, run.dataset.groups[index], split,
            simulated=run.dataset.simulated,
        )  # fmt: skip


def _confusion(run: SegmentationRun, net: nn.Module, rate: float) -> npt.NDArray[np.int64]:
    classes = len(run.dataset.classes)
    total = np.zeros((classes, classes + 1), np.int64)
    for answers, target in _answers(run, net, "test", rate):
        known = target >= 0
        total += confusion_matrix(target[known], answers.argmax(axis=0)[known], classes)
    return total


def _answers(
    run: SegmentationRun, net: nn.Module, split: str, rate: float
) -> Iterator[tuple[Doubles, npt.NDArray[np.int64]]]:
    """Yield logits ``(K, H, W)`` and classes ``(H, W)`` of each series of a split."""
    samples = run.samples(split, FixedGaps(rate))
    with torch.no_grad():
        for position in range(len(samples)):
            batch = default_collate([samples[position]])
            series, shares = kept(batch, tuple(run.modalities))
            logits, _ = net(*series, shares)
            yield logits[0].double().numpy(), batch["label"][0].numpy()


def _by_class(values: Doubles, classes: tuple[str, ...]) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(classes, values, strict=True)
    }
