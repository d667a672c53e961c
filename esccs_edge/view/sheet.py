"""The layout of a quicklook: rows of panels of one scene, a legend, a scale bar and coordinates.

Uses matplotlib's object interface only, so nothing of the calling program's state is touched.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.values import NODATA
from ..errors import MissingDependencyError
from ..rasters.grid import Grid
from ..scenes.palette import class_colors
from .map_scale import bar_length_m, ground_pixel_m, length_text
from .pictures import ABSENT_COLOR, resized

try:
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator, ScalarFormatter
except ImportError as error:
    raise MissingDependencyError.for_extra("matplotlib", "view", "Drawing a quicklook") from error

#: Classes the legend names; the rest is summed up.
LEGEND_CLASSES = 14
_LONGEST_NAME = 24
#: All lengths on the sheet are in inches.
_DPI = 110
_PANEL = 4.6
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.75, 2.4, 1.2, 0.45
_BETWEEN_COLUMNS, _BETWEEN_ROWS = 0.3, 0.55
_CALENDAR_ROW, _AROUND_CALENDAR = 0.28, 0.95
_NARROWEST, _LOWEST, _THINNEST = 3.2, 2.6, 0.3
_TALLEST = 1.5  # times the width
_INK = "#222222"
_FAINT = "#666666"
_ABSENT = tuple(value / 255 for value in ABSENT_COLOR)
_SHARE_COLORS = "RdYlBu"
_SEEN_COLORS = "YlGn"
_OUTLINE = [withStroke(linewidth=2.5, foreground="black")]

#: Row and column of a panel.
Cell = tuple[int, int]


class Sheet:
    """A page of two rows of panels, all showing the same ground.

    Args:
        grid: The ground.
        columns: Panels in a row.
        calendar_rows: Rows of a `calendar` below the panels.

    Attributes:
        figure: The matplotlib figure.
    """

    def __init__(self, grid: Grid, columns: int = 2, calendar_rows: int = 0) -> None:
        self._grid = grid
        self._ground = _ground_size(grid)
        ratio = self._ground[1] / self._ground[0]
        # Cells stay readable for strips too; a panel has the scene's proportions in its cell.
        self._cell_size = (
            _clipped(_TALLEST * _PANEL / ratio, _NARROWEST, _PANEL),
            _clipped(ratio * _PANEL, _LOWEST, _TALLEST * _PANEL),
        )
        width = min(self._cell_size[0], self._cell_size[1] / ratio)
        self._panel_size = max(width, _THINNEST), max(width * ratio, _THINNEST)
        self._below = calendar_rows and calendar_rows * _CALENDAR_ROW + _AROUND_CALENDAR
        self._size = (
            _LEFT + columns * self._cell_size[0] + (columns - 1) * _BETWEEN_COLUMNS + _RIGHT,
            _TOP + 2 * self._cell_size[1] + _BETWEEN_ROWS + _BOTTOM + self._below,
        )
        self.figure = Figure(figsize=self._size, dpi=_DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def headline(self, title: str, *lines: str) -> None:
        """Write a title and smaller lines at the top."""
        self._text(0.25, 0.32, title, size=15, weight="bold")
        for i, line in enumerate(filter(None, lines)):
            self._text(0.25, 0.56 + 0.19 * i, line, size=8.5, color=_FAINT)

    def picture(
        self,
        cell: Cell,
        title: str,
        picture: npt.NDArray[np.uint8] | None,
        *,
        smooth: bool = True,
    ) -> None:
        """Show ``(H, W, 3)``; for None, a note that the modality was not given."""
        axes = self._panel(cell, title)
        if picture is None:
            axes.set_facecolor(_ABSENT)
            axes.text(0.5, 0.5, "not given", transform=axes.transAxes, ha="center", va="center",
                      color=_FAINT, size=12)  # fmt: skip
            return
        side_px = round(max(self._panel_size) * _DPI)
        shown = resized(picture, side_px, smooth=smooth)
        axes.imshow(shown, extent=self._extent(), aspect="auto", interpolation="nearest")
        if cell[0] == 0:
            self._scale_bar(axes)
            self._north(axes)

    def class_legend(
        self,
        cell: Cell,
        classes: npt.NDArray[np.uint8],
        names: Sequence[str],
        other: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        """Name the classes of a map to its right, the most frequent first.

        Args:
            cell: Of the map.
            classes: The map; its shares are named.
            names: Class names.
            other: A further map on the page; its classes stand below, without shares.
        """
        counts = np.bincount(classes.ravel(), minlength=256)
        order = [i for i in np.argsort(-counts[: len(names)], kind="stable") if counts[i]]
        colors = class_colors(names)
        share = counts / max(classes.size, 1)
        handles = [
            _swatch(colors[i], f"{_percent(share[i])}  {_short(names[i])}")
            for i in order[:LEGEND_CLASSES]
        ]
        if len(order) > LEGEND_CLASSES:
            rest = sum(share[i] for i in order[LEGEND_CLASSES:])
            text = f"{_percent(rest)}  {len(order) - LEGEND_CLASSES} more"
            handles.append(Patch(facecolor="none", edgecolor="none", label=text))
        if other is not None:
            further = sorted(set(np.unique(other[other < len(names)]).tolist()) - set(order))
            handles += [_swatch(colors[i], _short(names[i])) for i in further[:LEGEND_CLASSES]]
        if counts[NODATA]:
            handles.append(_swatch(ABSENT_COLOR, f"{_percent(share[NODATA])}  no answer"))
        left, top = self._cell_corner(cell)
        self.figure.legend(
            handles=handles, loc="upper left", borderaxespad=0,
            bbox_to_anchor=(
                (left + self._cell_size[0] + 0.12) / self._size[0], top / self._size[1]
            ),
            frameon=False, fontsize=9, labelcolor=_INK, handlelength=1.2, handleheight=1.2,
        )  # fmt: skip

    def shares(
        self,
        cell: Cell,
        title: str,
        shares: npt.NDArray[np.float32],
        meanings: tuple[str, str, str] = ("", "", ""),
    ) -> None:
        """Show ``(H, W)`` values in [0, 1] with a color bar to the right; NaN is left blank.

        Args:
            cell: Where.
            title: Above the panel.
            shares: The values.
            meanings: What 0, 0.5 and 1 stand for, written at the color bar.
        """
        axes = self._panel(cell, title)
        axes.set_facecolor(_ABSENT)
        image = axes.imshow(
            shares, extent=self._extent(), aspect="auto", cmap=_SHARE_COLORS,
            norm=Normalize(0, 1), interpolation="nearest",
        )  # fmt: skip
        left, top = self._cell_corner(cell)
        bar = self._axes(left + self._cell_size[0] + 0.12, top, 0.14, self._cell_size[1])
        self.figure.colorbar(image, cax=bar, ticks=[0, 0.25, 0.5, 0.75, 1])
        low, middle, high = meanings
        labels = [f"0  {low}", "0.25", f"0.5  {middle}", "0.75", f"1  {high}"]
        bar.set_yticklabels([label.strip() for label in labels])
        bar.tick_params(labelsize=8.5, length=2, labelcolor=_INK)

    def calendar(
        self, title: str, rows: Mapping[str, Sequence[float]], dates: Mapping[int, str]
    ) -> None:
        """Show below the panels what was seen when: a row of squares for each sensor.

        Args:
            title: Above it.
            rows: Sensor -> share of the scene that was seen in each slot; 0 is left blank.
            dates: Slot -> what to write below it.
        """
        shares = np.array(list(rows.values()), np.float32)
        width = self._size[0] - _LEFT - _RIGHT
        height = len(shares) * _CALENDAR_ROW
        axes = self._axes(_LEFT, self._below - _AROUND_CALENDAR / 2, width, height)
        axes.set_title(title, loc="left", size=10, color=_INK, pad=5)
        axes.set_facecolor(_ABSENT)
        edges = np.arange(shares.shape[1] + 1) - 0.5, np.arange(len(shares) + 1) - 0.5
        shown = np.ma.masked_equal(shares, 0)
        axes.pcolormesh(*edges, shown, cmap=_SEEN_COLORS, norm=Normalize(0, 1),
                        edgecolors="white", linewidth=1)  # fmt: skip
        axes.invert_yaxis()
        axes.set_yticks(range(len(rows)), [_short(name) for name in rows])
        axes.set_xticks(list(dates), list(dates.values()))
        axes.tick_params(labelsize=8, length=2, color=_FAINT, labelcolor=_INK)
        for spine in axes.spines.values():
            spine.set_visible(False)
        handles = [
            Patch(facecolor=colormaps[_SEEN_COLORS](share), edgecolor=_FAINT, linewidth=0.5,
                  label=_percent(share)) for share in (1.0, 0.5, 0.1)
        ] + [_swatch(ABSENT_COLOR, "nothing")]  # fmt: skip
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1 + 0.12 / width, 1.3),
                    borderaxespad=0, frameon=False, fontsize=8.5, labelcolor=_INK,
                    handlelength=1.2, handleheight=1.0, labelspacing=0.25)  # fmt: skip

    def png(self) -> bytes:
        """Return the page as a PNG file."""
        content = io.BytesIO()
        self.figure.savefig(content, format="png", metadata={"Software": None})
        return content.getvalue()

    def _panel(self, cell: Cell, title: str) -> Any:
        left, top = self._cell_corner(cell)
        axes = self._axes(left, top, *self._panel_size)
        axes.set_title(title, loc="left", size=10, color=_INK, pad=5)
        self._coordinates(axes, cell)
        return axes

    def _cell_corner(self, cell: Cell) -> tuple[float, float]:
        """Return left and top of a cell, measured from the left and bottom of the page."""
        row, column = cell
        return (
            _LEFT + column * (self._cell_size[0] + _BETWEEN_COLUMNS),
            self._below
            + _BOTTOM
            + self._cell_size[1]
            + (1 - row) * (self._cell_size[1] + _BETWEEN_ROWS),
        )

    def _axes(self, left: float, top: float, width: float, height: float) -> Any:
        page_width, page_height = self._size
        return self.figure.add_axes(
            (left / page_width, (top - height) / page_height,
             width / page_width, height / page_height)
        )  # fmt: skip

    def _coordinates(self, axes: Any, cell: Cell) -> None:
        """Label the outer edges only; all panels show the same ground."""
        left, right, bottom, top = self._extent()
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        for axis, length in zip((axes.xaxis, axes.yaxis), self._panel_size, strict=True):
            ticks = MaxNLocator(max(round(length), 2), min_n_ticks=1, prune="both")
            axis.set_major_locator(ticks)  # pruned, since labels at a corner would collide
            axis.set_major_formatter(ScalarFormatter(useOffset=False))
            axis.get_major_formatter().set_scientific(False)
        axes.tick_params(labelsize=7, length=2, color=_FAINT, labelcolor=_FAINT,
                         labelbottom=cell[0] == 1, labelleft=cell[1] == 0)  # fmt: skip
        axes.tick_params(axis="y", labelrotation=90)
        for label in axes.yaxis.get_ticklabels():
            label.set_verticalalignment("center")
        for spine in axes.spines.values():
            spine.set_color(_FAINT)
            spine.set_linewidth(0.6)

    def _extent(self) -> tuple[float, float, float, float]:
        grid, t = self._grid, self._grid.transform
        if not grid.is_georeferenced:
            return 0, grid.width, grid.height, 0
        return t.c, t.c + t.a * grid.width, t.f + t.e * grid.height, t.f

    def _scale_bar(self, axes: Any) -> None:
        if ground_pixel_m(self._grid) is None:
            return
        length_m = bar_length_m(self._ground[0])
        width = length_m / self._ground[0]
        height = 0.07 / self._panel_size[1]
        axes.add_patch(
            Rectangle((0.04, 0.045), width, height, transform=axes.transAxes, facecolor="white",
                      edgecolor="black", linewidth=0.8)
        )  # fmt: skip
        axes.text(0.04, 0.06 + height, length_text(length_m), color="white", size=8.5,
                  transform=axes.transAxes, ha="left", va="bottom",
                  path_effects=_OUTLINE)  # fmt: skip

    def _north(self, axes: Any) -> None:
        """Draw an arrow to the north: grids are north-up, which a picture does not show."""
        if not self._grid.is_georeferenced:
            return
        axes.text(0.955, 0.955, "N\n▲", color="white", size=9, transform=axes.transAxes,
                  ha="center", va="top", linespacing=1.25, path_effects=_OUTLINE)  # fmt: skip

    def _text(self, left: float, from_top: float, text: str, **style: Any) -> None:
        width, height = self._size
        self.figure.text(left / width, 1 - from_top / height, text,
                          **{"color": _INK, "va": "center", **style})  # fmt: skip


def _ground_size(grid: Grid) -> tuple[float, float]:
    """Return width and height on the ground in meters, or in pixels without a CRS."""
    pixel = ground_pixel_m(grid) or (1.0, 1.0)
    return grid.width * pixel[0], grid.height * pixel[1]


def _swatch(color: tuple[int, int, int], label: str) -> Any:
    red, green, blue = (value / 255 for value in color)
    return Patch(facecolor=(red, green, blue), edgecolor=_FAINT, linewidth=0.5, label=label)


def _clipped(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _percent(share: float) -> str:
    return "< 1 %" if 0 < share < 0.01 else f"{share:.0%}".replace("%", " %")
