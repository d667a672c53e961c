"""The numbers of a report: how a bundle answers labeled pairs, and its worst mistakes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, cloud_bin
from esccs_edge.contracts.types import Array, Labels, Mask
from esccs_edge.contracts.values import Prediction

from .agreement import LEVEL, JudgedChips, agreement
from .evaluate import AnsweredPair
from .metrics import confusion_matrix, reliability, scores

#: Mistakes that a report shows.
WORST = 8
#: Draws of places behind an interval.
DRAWS = 1000


@dataclass(frozen=True)
class Mistake:
    """A wrong answer and what it was given for.

    Attributes:
        optical: ``(C, H, W)`` as the model saw it, or None.
        sar: ``(P, H, W)`` likewise.
        label: The true class.
        answer: What was answered.
        cover: Share under cloud, or None.
        group: Place of the pair.
        index: Position of the pair in the data set.
    """

    optical: Array | None
    sar: Array | None
    label: str
    answer: Prediction
    cover: float | None
    group: str
    index: int


def report_numbers(
    pairs: Iterable[AnsweredPair],
    classes: Sequence[str],
    groups: Sequence[str],
    *,
    worst: int = WORST,
) -> tuple[dict[str, Any], list[Mistake]]:
    """Judge answered pairs.

    Args:
        pairs: At least one; pixels are kept of the worst mistakes alone.
        classes: Of the model.
        groups: Place of each pair of the data set; intervals draw whole places.
        worst: Mistakes to keep: those that the model was surest of.

    Returns:
        ``{n, unit, counted, lacking, measure, places, level, overall, agreement, by_cloud,
        reliability, confusion, by_class}`` (``unit``: what is counted, ``lacking`` and ``measure``:
        what ``by_cloud`` has bins of and shows) and
        the mistakes, the surest first, each pair once. ``agreement`` holds ``all`` and
        ``balanced`` with ``low`` and ``high``, None where there are fewer than two places;
        ``by_cloud`` each bin's ``n``, ``value``, ``low``, ``high`` and mean ``gate_optical``; the
        others are as in `metrics`.
    """
    kept: list[tuple[float, int, AnsweredPair]] = []
    seen = [_noted(pair, number, kept, worst) for number, pair in enumerate(pairs)]
    labels, found, index = (np.array([row[i] for row in seen], np.int64) for i in range(3))
    sure, cover, gate = (np.array([row[i] for row in seen], np.float64) for i in range(3, 6))
    chips = JudgedChips(labels, np.array([groups[i] for i in index]), cover, tuple(classes))
    answer = agreement(chips, {"model": found}, draws=DRAWS)
    row = answer["rows"]["model"]
    right = labels == found
    matrix = confusion_matrix(labels, found, len(classes))
    numbers = {
        "n": len(labels),
        "unit": "pairs",
        "counted": len(labels),
        "lacking": "Cloud cover, %",
        "measure": "accuracy",
        "places": len(answer["places"]),
        "level": LEVEL,
        "overall": scores(labels, found, sure, len(classes)),
        "agreement": {name: row[name] for name in ("all", "balanced")},
        "majority": answer["rows"]["majority class"]["all"]["value"],
        "by_cloud": _with_gates(row["by_cloud"], cover, gate),
        "reliability": reliability(sure, right),
        "classes": list(classes),
        "confusion": matrix.tolist(),
        "by_class": by_class(matrix, classes),
    }
    mistakes = [_mistake(pair, classes, groups) for _, _, pair in sorted(kept, reverse=True)]
    return numbers, mistakes


def _noted(
    pair: AnsweredPair, number: int, kept: list[tuple[float, int, AnsweredPair]], worst: int
) -> tuple[float, ...]:
    """Return a row of numbers, and keep the pair while it is among the worst mistakes."""
    answer = pair.answer
    if isinstance(answer, Prediction) and pair.found != pair.label and worst:
        entry = pair.confidence, -number, pair
        same = [i for i, (_, _, known) in enumerate(kept) if known.pair.index == pair.pair.index]
        if same:  # under another cloud
            kept[same[0]] = max(kept[same[0]], entry, key=itemgetter(0))
            heapq.heapify(kept)
        else:
            push = heapq.heappush if len(kept) < worst else heapq.heappushpop
            push(kept, entry)
    gate = answer.gate.optical if isinstance(answer, Prediction) else np.nan
    return (pair.label, pair.found, pair.pair.index, pair.confidence, pair.cover, gate)


def _with_gates(by_cloud: dict[str, Any], cover: Array, gate: Array) -> dict[str, Any]:
    place = np.array([-1 if np.isnan(c) else cloud_bin(c) for c in cover], np.int64)

    def mean(inside: Mask) -> float | None:
        known = gate[inside & np.isfinite(gate)]
        return float(known.mean()) if len(known) else None

    return {
        name: {**by_cloud[name], "gate_optical": mean(place == position)}
        for position, name in enumerate(CLOUD_BINS)
    }


def by_class(matrix: Labels, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return ``{class, n, recall, precision}`` of each class; a share of nothing is None.

    Args:
        matrix: As `confusion_matrix` counts.
        classes: Names.
    """
    found = []
    for k, name in enumerate(classes):
        hits, there, answered = int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum())
        found.append({
            "class": name,
            "n": there,
            "recall": hits / there if there else None,
            "precision": hits / answered if answered else None,
        })  # fmt: skip
    return found


def _mistake(pair: AnsweredPair, classes: Sequence[str], groups: Sequence[str]) -> Mistake:
    assert isinstance(pair.answer, Prediction)
    shown = pair.pair
    cover = None if np.isnan(pair.cover) else float(pair.cover)
    return Mistake(
        shown.optical, shown.sar, classes[pair.label], pair.answer, cover, groups[shown.index],
        shown.index,
    )  # fmt: skip
