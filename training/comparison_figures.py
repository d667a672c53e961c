"""Pictures of a comparison: accuracy and modality share by cloud cover, and reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esccs_edge.atomic import atomic_path

from .metrics import CLOUD_BINS, bin_range, cloud_bin
from .recorded_answers import RecordedAnswers

#: Method -> its answers, one entry per seed.
Recorded = Mapping[str, Sequence[RecordedAnswers]]
Values = npt.NDArray[np.float64]

ACCURACY_NAME = "accuracy-by-cloud.png"
SHARE_NAME = "modality-share-by-cloud.png"
RELIABILITY_NAME = "reliability.png"
CONFIDENCE_BINS = 10
#: Half of a normal 95 % interval in standard errors.
HALF_WIDTH = 1.96
CENTERS = 100 * np.array([sum(bin_range(position)) / 2 for position in range(len(CLOUD_BINS))])
LINES = ("-", "--", ":", "-.")


def draw_figures(folder: Path, recorded: Recorded, accuracy: Mapping[str, Values]) -> None:
    """Write the three pictures.

    Args:
        folder: Where to.
        recorded: Answers of all methods.
        accuracy: Balanced accuracy per method, ``(seeds, cloud bins)``, NaN where unknown.
    """
    figure = Figure((9.0, 5.5), layout="constrained")
    _by_cloud(figure.subplots(), accuracy, "Balanced accuracy")
    _save(figure, folder / ACCURACY_NAME)
    shares = {name: np.stack([_share(run) for run in runs]) for name, runs in recorded.items()
              if all(run.optical_share is not None for run in runs)}  # fmt: skip
    if shares:
        figure = Figure((7.0, 4.5), layout="constrained")
        axes = figure.subplots()
        _by_cloud(axes, shares, "Gate weight of optical")
        axes.set_ylim(0, 1)
        _save(figure, folder / SHARE_NAME)
    figure = Figure((8.0, 5.5), layout="constrained")
    _reliability(figure.subplots(), recorded)
    _save(figure, folder / RELIABILITY_NAME)


def _by_cloud(axes: Axes, values: Mapping[str, Values], label: str) -> None:
    for place, (name, per_seed) in enumerate(values.items()):
        known = ~np.isnan(per_seed).all(axis=0)
        x, seen = CENTERS[known], per_seed[:, known]
        mean = np.nanmean(seen, axis=0)
        style = _style(name, place)
        axes.plot(x, mean, marker="o", markersize=3, label=name, **style)
        if len(seen) > 1:
            half = HALF_WIDTH * np.nanstd(seen, axis=0, ddof=1) / np.sqrt(len(seen))
            low, high = np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)
            axes.fill_between(x, low, high, alpha=0.12, color=style["color"])
    axes.set_xlabel("Cloud cover in %, bands: 95 % of the mean over seeds")
    axes.set_ylabel(label)
    axes.set_xlim(0, 100)
    axes.grid(alpha=0.3)
    _legend(axes)


def _reliability(axes: Axes, recorded: Recorded) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for place, (name, runs) in enumerate(recorded.items()):
        probabilities = np.concatenate([run.answers.probabilities for run in runs])
        labels = np.concatenate([run.answers.labels for run in runs])
        confidence = probabilities.max(axis=1)
        right = probabilities.argmax(axis=1) == labels
        bins = np.clip((confidence * CONFIDENCE_BINS).astype(int), 0, CONFIDENCE_BINS - 1)
        used = np.unique(bins)
        x = [confidence[bins == k].mean() for k in used]
        y = [right[bins == k].mean() for k in used]
        axes.plot(x, y, marker="o", markersize=3, label=name, **_style(name, place))
    axes.set_xlabel("Confidence")
    axes.set_ylabel("Share of right answers")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    _legend(axes)


def _share(run: RecordedAnswers) -> Values:
    """Mean optical share per cloud bin; NaN where no pair falls in."""
    assert run.optical_share is not None
    cover = run.answers.cover
    place = np.array([-1 if np.isnan(c) else cloud_bin(c) for c in cover])
    parts = [run.optical_share[place == position] for position in range(len(CLOUD_BINS))]
    return np.array([part.mean() if len(part) else np.nan for part in parts])


def _style(name: str, place: int) -> dict[str, Any]:
    """ESCCS thick and black, the others in colors and dashes that tell 40 apart."""
    if name == "esccs":
        return {"color": "black", "linewidth": 2.4, "linestyle": "-"}
    return {"color": f"C{place % 10}", "linewidth": 1.2, "linestyle": LINES[place // 10 % 4]}


def _legend(axes: Axes) -> None:
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as partial:
        figure.savefig(partial)
