"""The numbers of a report on a task other than scenes: label maps, series, series of maps.

Samples come from an index of stored ones, as a run leaves in ``heldout/``. What counts is a pixel
of a map, or a series; intervals draw whole places.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, cloud_bin
from esccs_edge.contracts.tasks import task_named
from esccs_edge.contracts.types import Array, Doubles, Labels
from esccs_edge.errors import EsccsError, InputError
from esccs_edge.rasters.pair_index import PairIndex
from esccs_edge.runtime.model import ModelRuntime

from .agreement import LEVEL, interval, place_draws
from .map_metrics import map_measures, miou
from .metrics import cohen_kappa, confusion_matrix, macro_f1
from .report_numbers import by_class

#: Samples asked at once, samples that a report shows, draws of places behind an interval.
CHUNK, WORST, DRAWS = 32, 8, 1000
#: Bars of reliability; confidence is counted by percent.
BARS = 10


@dataclass(frozen=True)
class JudgedSample:
    """A sample and its answer.

    Attributes:
        index: Row of the index.
        group: Its place.
        pixels: Modality -> what the model was shown, or None.
        truth: Class numbers, ``()`` or ``(H, W)``; -1 where not known.
        found: Answered ones, K where there is no answer.
        percent: Confidence of each, from 0 to 100.
        cover: Share that optical lacks: under cloud, or of dates; NaN where not known.
        gate: Mean share of optical in the answer; NaN where the task knows none.
    """

    index: int
    group: str
    pixels: Mapping[str, Array | None]
    truth: Labels
    found: Labels
    percent: Labels
    cover: float
    gate: float

    @property
    def share_right(self) -> float:
        """Of what counts; 1 where nothing does."""
        known = self.truth >= 0
        return float((self.truth == self.found)[known].mean()) if known.any() else 1.0


def judged_samples(
    model: ModelRuntime[Any],
    index: PairIndex,
    split: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[JudgedSample]:
    """Ask a model about the rows of a split.

    Raises:
        InputError: The split holds no row with a label or a map of classes.
    """
    is_map = task_named(model.manifest.task).target == "map"
    rows = [
        i
        for i, row in enumerate(index.rows)
        if row.split == split and (row.target if is_map else row.label) is not None
    ]
    if not rows:
        raise InputError(f"the index holds no labeled sample in split {split!r}")
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        shown = [index.load(i, model.manifest.modalities) for i in part]
        for i, pixels, answer in zip(part, shown, model.run_batch(shown), strict=True):
            yield _judged(index, i, pixels, answer, model.manifest.classes, is_map)
        if on_progress is not None:
            on_progress(start + len(part), len(rows))


def _judged(
    index: PairIndex, i: int, pixels: Mapping[str, Array | None], answer: Any,
    classes: tuple[str, ...], is_map: bool,
) -> JudgedSample:  # fmt: skip
    row = index.rows[i]
    if is_map:
        target = index.load_target(i)
        assert target is not None
        truth = target.astype(np.int64)
    else:
        truth = np.array(classes.index(str(row.label)), np.int64)
    found, percent = np.full(truth.shape, len(classes)), np.zeros(truth.shape, np.int64)
    cover, gate = np.nan if row.cover is None else row.cover, np.nan
    if not isinstance(answer, EsccsError):
        if is_map:
            found = np.minimum(answer.label.astype(np.int64), len(classes))
            percent = np.where(found < len(classes), answer.confidence, 0).astype(np.int64)
        elif answer.label in classes:
            found = np.array(classes.index(answer.label))
            percent = np.array(round(100 * answer.confidence))
        gate, cover = _gate(answer), _missing(answer, cover)
    return JudgedSample(i, row.group, pixels, truth, found, percent, cover, gate)


def _gate(answer: Any) -> float:
    gate = getattr(answer, "gate", None)
    if gate is None:
        return np.nan
    share = answer.mean_share(gate.optical) if hasattr(answer, "mean_share") else gate.optical
    return np.nan if share is None else float(share)


def _missing(answer: Any, cover: float) -> float:
    """Return the share of dates without optical, of the only sensor where that is another."""
    seen = getattr(answer, "seen", None)
    if seen is None:
        return cover
    return 1 - float(np.mean(seen.get("optical", next(iter(seen.values())))))


def sample_numbers(
    samples: Iterable[JudgedSample], classes: Sequence[str], *, is_map: bool, is_series: bool
) -> tuple[dict[str, Any], list[JudgedSample]]:
    """Judge answered samples.

    Returns:
        What `report_numbers` returns, where ``n`` is the number of samples, and ``unit``,
        ``counted`` (pixels or series), ``lacking`` (what the bins are of) and of maps ``miou``
        with its interval; and the worst samples: maps with the least share right, series that the
        model was surest of.
    """
    size = len(classes)
    places: dict[str, Labels] = {}
    bins: list[dict[str, Labels]] = [{} for _ in CLOUD_BINS]
    gates: list[list[float]] = [[] for _ in CLOUD_BINS]
    worst: list[tuple[float, int, JudgedSample]] = []
    counts, number = np.zeros((2, 101), np.int64), 0
    for number, one in enumerate(samples, 1):
        known = one.truth >= 0
        matrix = confusion_matrix(one.truth[known], one.found[known], size)
        places[one.group] = places.get(one.group, 0) + matrix
        if np.isfinite(one.cover):
            inside = cloud_bin(one.cover)
            bins[inside][one.group] = bins[inside].get(one.group, 0) + matrix
            gates[inside] += [one.gate] if np.isfinite(one.gate) else []
        right = (one.truth == one.found)[known]
        for row, chosen in zip(counts, (slice(None), right), strict=True):
            row += np.bincount(one.percent[known][chosen], minlength=101)
        badness = 1 - one.share_right if is_map else float(one.percent) * (not right.all())
        if badness > 0:
            push = heapq.heappush if len(worst) < WORST else heapq.heappushpop
            push(worst, (badness, -number, one))
    matrix = np.sum(list(places.values()), axis=0)
    there = matrix.sum(axis=1)
    measure = miou if is_map else accuracy
    bars = _bars(*counts)
    numbers = {
        "n": number,
        "unit": "pixels" if is_map else "series",
        "counted": int(matrix.sum()),
        "lacking": "Missing optical dates, %" if is_series else "Cloud cover, %",
        "measure": "mIoU" if is_map else "accuracy",
        "places": len(places),
        "level": LEVEL,
        "overall": {
            "macro_f1": macro_f1(matrix),
            "kappa": cohen_kappa(matrix),
            "ece": sum(abs(b["confidence"] - b["accuracy"]) * b["n"] for b in bars if b["n"])
            / max(int(counts[0].sum()), 1),
            "failed": int(matrix[:, -1].sum()),
        },
        "agreement": {
            "all": _interval(accuracy, places),
            "balanced": _interval(balanced_accuracy, places),
        },
        "majority": int(there.max()) / int(there.sum()),
        "by_cloud": {
            name: {
                "n": sum(int(m.sum()) for m in part.values()),
                **_interval(measure, part),
                "gate_optical": float(np.mean(gate)) if gate else None,
            }
            for name, part, gate in zip(CLOUD_BINS, bins, gates, strict=True)
        },
        "reliability": bars,
        "classes": list(classes),
        "confusion": matrix.tolist(),
        "by_class": by_class(matrix, classes),
    }
    if is_map:
        numbers["miou"] = _interval(miou, places)
        for row, iou in zip(numbers["by_class"], map_measures(matrix)["iou"], strict=True):
            row["iou"] = iou
    return numbers, [one for _, _, one in sorted(worst, reverse=True, key=lambda row: row[:2])]


def accuracy(matrices: Doubles) -> Doubles:
    """``(..., K, K + 1)`` -> ``(...)``: share of all that is right."""
    hits = np.trace(matrices, axis1=-2, axis2=-1)
    return np.asarray(hits / np.maximum(matrices.sum(axis=(-2, -1)), 1))


def balanced_accuracy(matrices: Doubles) -> Doubles:
    """``(..., K, K + 1)`` -> ``(...)``: mean share right of the classes that occur."""
    there, hits = matrices.sum(axis=-1), np.diagonal(matrices, axis1=-2, axis2=-1)
    shares = np.divide(hits, there, out=np.zeros(np.shape(hits)), where=there > 0)
    return np.asarray(shares.sum(axis=-1) / np.maximum((there > 0).sum(axis=-1), 1))


def _interval(
    measure: Callable[[Doubles], Doubles], places: Mapping[str, Labels]
) -> dict[str, float | None]:
    """Return a measure and its interval over draws of whole places; None where it has none."""
    matrices = np.array(list(places.values()), np.float64)
    if not len(matrices) or not matrices.sum():
        return {"value": None, "low": None, "high": None}
    times = place_draws(len(matrices), 0, DRAWS)
    drawn = np.nan_to_num(measure(np.tensordot(times, matrices, axes=1)))  # one may hold nothing
    return interval(float(measure(matrices.sum(axis=0))), drawn, times)


def _bars(answers: Labels, right: Labels) -> list[dict[str, Any]]:
    """Return the bars of a reliability diagram from counts by percent of confidence."""
    percent = np.arange(101)
    bar = np.minimum(percent * BARS // 100, BARS - 1)
    found = []
    for k in range(BARS):
        n = int(answers[bar == k].sum())
        found.append({
            "low": k / BARS, "high": (k + 1) / BARS, "n": n,
            "confidence": float((answers * percent)[bar == k].sum()) / n / 100 if n else None,
            "accuracy": int(right[bar == k].sum()) / n if n else None,
        })  # fmt: skip
    return found
