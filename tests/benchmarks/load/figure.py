"""The picture of the scaling measurements: callers, batches, load, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from esccs_edge.system.atomic import atomic_path

from .rows import BatchRow, CallersRow, LoadRow, Overload, Scaling, Soak

_DPI = 110
_INK = "#222222"
_FAINT = "#888888"


def draw_scaling(path: Path, scaling: Scaling) -> None:
    """Write the picture as PNG; an existing file is replaced."""
    with_soak = scaling.soak is not None
    figure = Figure((10.5, 10.0 if with_soak else 8.0), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3 if with_soak else 2, 2, height_ratios=[2, 2, 1][: 2 + with_soak])
    _callers(figure.add_subplot(grid[0, 0]), scaling.callers)
    _batches(figure.add_subplot(grid[0, 1]), scaling.batches)
    _goodput(figure.add_subplot(grid[1, 0]), scaling.overload)
    _waiting(figure.add_subplot(grid[1, 1]), scaling.overload)
    if scaling.soak is not None:
        _memory(figure.add_subplot(grid[2, :]), scaling.soak)
    with atomic_path(path) as partial:
        figure.savefig(partial)


def _callers(axes: Axes, rows: Sequence[CallersRow]) -> None:
    for number, threads in enumerate(sorted({row.threads for row in rows})):
        own = [row for row in rows if row.threads == threads]
        label = f"{threads} thread" + "s" * (threads > 1)
        axes.plot(
            [row.callers for row in own], [row.pairs_per_s for row in own],
            marker="o", markersize=4, color=f"C{number}", label=label,
        )  # fmt: skip
    _frame(axes, "Callers that submit at once", "Callers", "Pairs/s", [r.callers for r in rows])
    axes.legend(frameon=False)


def _batches(axes: Axes, rows: Sequence[BatchRow]) -> None:
    axes.plot(
        [row.batch for row in rows], [row.pairs_per_s for row in rows],
        marker="o", markersize=4, color=_INK,
    )  # fmt: skip
    for row in rows:
        axes.annotate(
            f"{row.p50_ms:.3g} ms", (row.batch, row.pairs_per_s), (8, -15),
            textcoords="offset points", ha="center", fontsize=8, color=_FAINT,
        )  # fmt: skip
    _frame(axes, "Batch size (labels: p50 of a call)", "Pairs per call", "Pairs/s",
           [row.batch for row in rows])  # fmt: skip


def _goodput(axes: Axes, load: Overload) -> None:
    x = [row.load for row in load.rows]
    axes.axhline(load.capacity_per_s, color=_FAINT, linewidth=1, linestyle="--", label="capacity")
    axes.plot(x, [row.goodput_per_s for row in load.rows], marker="o", color="C2", label="answered")
    axes.plot(
        x, [row.offered_per_s for row in load.rows],
        marker="o", markersize=4, color="C3", linewidth=1, label="offered",
    )  # fmt: skip
    for row in (row for row in load.rows if row.rejected >= 0.005):
        axes.annotate(
            f"{row.rejected:.0%} refused", (row.load, row.goodput_per_s), (0, -14),
            textcoords="offset points", ha="center", fontsize=8, color=_FAINT,
        )  # fmt: skip
    _frame(axes, "Answers under load", "Load, multiples of the capacity", "Pairs/s", x)
    axes.set_ylim(0, 2.2 * max(load.capacity_per_s, *(row.goodput_per_s for row in load.rows)))
    axes.legend(frameon=False)


def _waiting(axes: Axes, load: Overload) -> None:
    axes.axhline(
        load.bound_ms, color=_FAINT, linewidth=1, linestyle="--", label="full queue at capacity"
    )
    for field, label, color, style in (
        ("p99_ms", "answer, p99", "C0", "-"),
        ("p50_ms", "answer, p50", "C0", ":"),
        ("reject_p99_ms", "refusal, p99", "C3", "-"),
        ("reject_p50_ms", "refusal, p50", "C3", ":"),
    ):
        known = [(row.load, getattr(row, field)) for row in load.rows if _has(row, field)]
        if known:
            axes.plot(*zip(*known, strict=True), style, marker="o", markersize=4,
                      color=color, label=label)  # fmt: skip
    axes.set_yscale("log")
    _frame(axes, "Time until answer or refusal", "Load, multiples of the capacity", "ms",
           [row.load for row in load.rows])  # fmt: skip
    axes.legend(frameon=False, fontsize=8)


def _memory(axes: Axes, soak: Soak) -> None:
    axes.plot(soak.at_calls, [b / 2**20 for b in soak.resident_bytes], color=_INK, linewidth=1.2)
    axes.set_ylim(0, 1.15 * max(soak.resident_bytes) / 2**20)
    axes.set_xlim(0, soak.calls)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_title(
        f"Resident memory ({soak.bytes_per_call:.2f} bytes per call in the second half)", loc="left"
    )
    axes.set_xlabel("Calls")
    axes.set_ylabel("MiB")
    axes.grid(alpha=0.3)


def _has(row: LoadRow, field: str) -> bool:
    return getattr(row, field) is not None


def _frame(axes: Axes, title: str, x_label: str, y_label: str, ticks: Sequence[float]) -> None:
    """Give all panels the same look: doublings evenly spaced, a tick at each measurement."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(set(ticks)), [f"{tick:g}" for tick in sorted(set(ticks))])
    axes.minorticks_off()
    axes.margins(x=0.08)
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.set_title(title, loc="left")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
