"""One PNG of pixel series: greenness over the season where it was seen, and the echo of SAR."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.types import Array, Doubles, Mask, PathLike
from ..errors import MissingDependencyError
from ..example.series import ExampleSeries
from ..system.atomic import write_atomic

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import DateFormatter, MonthLocator
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingDependencyError.for_extra("matplotlib", "view", "Drawing seasons") from error

_COLUMNS = 2
_DPI = 110
_INK, _FAINT, _GREEN, _SAR = "#222222", "#666666", "#2b7a3d", "#8a63a8"
#: Places of red and near infrared among the bands of the example.
_RED, _NIR = 2, 6
#: Backscatter that is drawn, VH.
_SAR_DB = (-28, -12)


def draw_seasons(
    png_path: PathLike,
    series: Sequence[ExampleSeries],
    hidden: Sequence[Mask],
    captions: Sequence[str],
    *,
    note: str,
) -> Path:
    """Draw one panel per series; an existing file is replaced.

    Args:
        png_path: Picture to write.
        series: What to draw.
        hidden: Of each ``(n,)``: dates that were seen and are hidden from the model.
        captions: Of each.
        note: A line at the bottom, such as the source.

    Returns:
        The path of the picture.
    """
    rows = -(-len(series) // _COLUMNS)
    figure = Figure((5.4 * _COLUMNS, 0.8 + 2.3 * rows), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True, sharey=True)
    for place, one, lost, caption in zip(axes.flat, series, hidden, captions, strict=False):
        _panel(place, one, lost, caption)
    for place in axes.flat[len(series) :]:
        place.set_visible(False)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper right",
                  fontsize=7.5, frameon=False, ncols=3)  # fmt: skip
    figure.supxlabel(note, fontsize=7, color=_FAINT)
    figure.supylabel("NDVI", fontsize=8, color=_GREEN)
    written = io.BytesIO()
    canvas.print_png(written)  # type: ignore[no-untyped-call]
    target = Path(png_path)
    write_atomic(target, written.getvalue())
    return target


def _panel(axes: Any, one: ExampleSeries, hidden: Mask, caption: str) -> None:
    greenness, seen = _greenness(one.optical), one.optical.any(axis=0)
    shown = seen & ~hidden
    axes.plot(one.dates[seen], greenness[seen], color=_GREEN, linewidth=0.8, alpha=0.5)
    axes.plot(one.dates[shown], greenness[shown], "o", color=_GREEN, markersize=3.5, label="seen")
    axes.plot(one.dates[hidden], greenness[hidden], "o", color=_GREEN, markersize=3.5,
              markerfacecolor="white", label="hidden at the second try")  # fmt: skip
    axes.set_ylim(-0.45, 1)
    axes.set_title(caption, fontsize=8.5, color=_INK, loc="left")
    axes.xaxis.set_major_locator(MonthLocator(interval=3))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(DateFormatter("%Y-%m"))  # type: ignore[no-untyped-call]
    axes.tick_params(labelsize=7, colors=_FAINT)
    # In the lowest part of the same axes: the course of the echo, not its values.
    low, high = _SAR_DB
    echo = (np.clip(one.sar[1], low, high) - low) / (high - low)
    axes.plot(one.dates, -0.4 + 0.35 * echo, color=_SAR, linewidth=0.9,
              label=f"VH, {low} to {high} dB")  # fmt: skip
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
        spine.set_linewidth(0.6)


def _greenness(optical: Array) -> Doubles:
    """Normalized difference of near infrared and red ``(n,)``."""
    red, infrared = optical[_RED].astype(float), optical[_NIR].astype(float)
    found: Doubles = (infrared - red) / np.maximum(infrared + red, 1)
    return found
