"""Pictures of a comparison: accuracy and modality share by cloud cover, and reliability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range
from esccs_edge.system.atomic import atomic_path

from ..methods import FAMILIES
from .recorded_answers import RecordedAnswers, by_bin

#: Method -> its answers, one entry per seed.
Recorded = Mapping[str, Sequence[RecordedAnswers]]
Values = npt.NDArray[np.float64]
#: Method -> how its line looks; the label is empty where the legend does not name it.
Styles = Mapping[str, dict[str, Any]]

ACCURACY_NAME = "accuracy-by-cloud.png"
SHARE_NAME = "modality-share-by-cloud.png"
RELIABILITY_NAME = "reliability.png"
CONFIDENCE_BINS = 10
#: Stands once in a legend for all gray lines.
OTHERS = "others"
#: Half of a normal 95 % interval in standard errors.
HALF_WIDTH = 1.96
CENTERS = 100 * np.array([sum(bin_range(position)) / 2 for position in range(len(CLOUD_BINS))])
#: Methods that every picture names, and how they look.
NAMED: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "esccs": {"color": "black", "linewidth": 2.6, "zorder": 4},
        "source-only": {"color": "C3", "linewidth": 1.8, "zorder": 3},
        "supervised-fusion": {"color": "C2", "linewidth": 1.8, "linestyle": "--", "zorder": 3},
    }
)
#: Colors of the best method of each family, in the order of `FAMILIES`.
FAMILY_COLORS = ("C0", "C1", "C5", "C4", "C9")
GRAY: Mapping[str, Any] = MappingProxyType(
    {"color": "0.8", "linewidth": 0.9, "marker": "", "zorder": 1}
)
MARKER: Mapping[str, Any] = MappingProxyType({"marker": "o", "markersize": 3})


def draw_figures(folder: Path, recorded: Recorded, accuracy: Mapping[str, Values]) -> None:
    """Write the three pictures.

    Args:
        folder: Where to.
        recorded: Answers of all methods.
        accuracy: Balanced accuracy per method, ``(seeds, cloud bins)``, NaN where unknown.
    """
    styles = _styles(accuracy)
    figure = Figure((9.5, 5.5), layout="constrained")
    _by_cloud(figure.subplots(), accuracy, styles, "Balanced accuracy")
    _save(figure, folder / ACCURACY_NAME)
    shares = {name: np.stack([_share(run) for run in runs]) for name, runs in recorded.items()
              if all(run.optical_share is not None for run in runs)}  # fmt: skip
    if shares:
        figure = Figure((7.5, 4.5), layout="constrained")
        axes = figure.subplots()
        _by_cloud(axes, shares, _colors(shares), "Gate weight of optical")
        axes.set_ylim(0, 1)
        _save(figure, folder / SHARE_NAME)
    figure = Figure((8.5, 5.5), layout="constrained")
    _reliability(figure.subplots(), recorded, styles)
    _save(figure, folder / RELIABILITY_NAME)


def _by_cloud(axes: Axes, values: Mapping[str, Values], styles: Styles, label: str) -> None:
    for name, per_seed in values.items():
        known = ~np.isnan(per_seed).all(axis=0)
        x, seen = CENTERS[known], per_seed[:, known]
        mean = np.nanmean(seen, axis=0)
        axes.plot(x, mean, **styles[name])
        if len(seen) > 1 and styles[name]["color"] != GRAY["color"]:
            half = HALF_WIDTH * np.nanstd(seen, axis=0, ddof=1) / np.sqrt(len(seen))
            low, high = np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)
            axes.fill_between(x, low, high, alpha=0.12, color=styles[name]["color"], linewidth=0)
    axes.set_xlabel("Cloud cover in %, bands: 95 % of the mean over seeds")
    axes.set_ylabel(label)
    axes.set_xlim(0, 100)
    axes.grid(alpha=0.3)
    _legend(axes)


def _reliability(axes: Axes, recorded: Recorded, styles: Styles) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for name, runs in recorded.items():
        probabilities = np.concatenate([run.judged.probabilities for run in runs])
        labels = np.concatenate([run.judged.labels for run in runs])
        confidence = probabilities.max(axis=1)
        right = probabilities.argmax(axis=1) == labels
        bins = np.clip((confidence * CONFIDENCE_BINS).astype(int), 0, CONFIDENCE_BINS - 1)
        used = np.unique(bins)
        x = [confidence[bins == k].mean() for k in used]
        y = [right[bins == k].mean() for k in used]
        axes.plot(x, y, **styles[name])
    axes.set_xlabel("Confidence")
    axes.set_ylabel("Share of right answers")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    _legend(axes)


def _share(run: RecordedAnswers) -> Values:
    """Mean optical share per cloud bin; NaN where no pair falls in."""
    assert run.optical_share is not None
    return np.array(by_bin(run.optical_share, run.judged.cover), np.float64)


def _styles(accuracy: Mapping[str, Values]) -> Styles:
    """Name ESCCS, both ends of the scale and the best of each family; the rest is gray."""
    means = {name: float(np.nanmean(values)) for name, values in accuracy.items()}
    styles = {name: {"label": "", **GRAY} for name in accuracy}
    for color, (family, names) in zip(FAMILY_COLORS, FAMILIES.items(), strict=True):
        if known := [name for name in names if name in means]:
            best = max(known, key=means.__getitem__)
            label = f"{best}\n(best {family})"
            styles[best] = {"label": label, "color": color, "linewidth": 1.4, "zorder": 2, **MARKER}
    for name in NAMED.keys() & means.keys():
        styles[name] = {"label": name, **NAMED[name], **MARKER}
    if gray := [name for name in styles if not styles[name]["label"]]:
        styles[gray[0]]["label"] = OTHERS
    return styles


def _colors(names: Iterable[str]) -> Styles:
    """Name all of a few methods."""
    return {
        name: {"label": name, **NAMED.get(name, {"color": f"C{place}", "linewidth": 1.2}), **MARKER}
        for place, name in enumerate(names)
    }


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    known = sorted(zip(handles, labels, strict=True), key=lambda part: part[1] == OTHERS)
    axes.legend(
        *zip(*known, strict=True),
        fontsize=8,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
    )


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as partial:
        figure.savefig(partial)
