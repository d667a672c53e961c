"""The picture of a comparison: latency of the smallest batch, throughput by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esccs_edge.system.atomic import atomic_path

from . import OURS, PEERS

Row = Mapping[str, Any]

OUR_COLOR = "#c1272d"
OTHER_COLORS = ("#0b3d66", "#2f7fbf", "#9cc7e6", "#4d4d4d", "#a6a6a6", "#6a3d9a", "#b39ddb",
                "#b8860b")  # fmt: skip
COLORS = dict(zip(PEERS, (OUR_COLOR, *OTHER_COLORS), strict=True))


def draw_figure(rows: Sequence[Row], target: Path) -> None:
    """Write the picture.

    Args:
        rows: The rows of a comparison, as in its JSON document.
        target: PNG to write.
    """
    cells = sorted({(row["patch"], row["threads"] or 0) for row in rows})
    figure = Figure((11.0, 3.2 * len(cells) + 0.6), layout="constrained")
    panels = figure.subplots(len(cells), 2, squeeze=False)
    for (patch, threads), (left, right) in zip(cells, panels, strict=True):
        shown = [r for r in rows if (r["patch"], r["threads"] or 0) == (patch, threads)]
        title = f"{patch} x {patch} pixels, threads: {threads or 'all'}"
        _latency(left, shown, title)
        _throughput(right, shown, title)
    handles, names = panels[0][1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, fontsize=8)
    with atomic_path(target) as partial:
        figure.savefig(partial, dpi=150)


def _latency(axes: Axes, rows: Sequence[Row], title: str) -> None:
    smallest = min(row["batch"] for row in rows)
    bars = [row for row in rows if row["batch"] == smallest][::-1]
    names = [row["peer"] for row in bars]
    axes.barh(names, [row["p50_ms"] for row in bars], color=[COLORS[name] for name in names])
    axes.plot([row["p99_ms"] for row in bars], names, "|", color="black", markersize=8)
    for row in bars:
        axes.annotate(f" {row['p50_ms']:.2f}", (row["p50_ms"], row["peer"]), va="center",
                      xytext=(2, 5), textcoords="offset points", fontsize=6)  # fmt: skip
    axes.set_xlabel(f"ms at batch {smallest}: bar p50, mark p99")
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(axis="x", alpha=0.3)


def _throughput(axes: Axes, rows: Sequence[Row], title: str) -> None:
    for name in PEERS:
        own = sorted((row for row in rows if row["peer"] == name), key=lambda row: row["batch"])
        if own:
            width = 2.2 if name == OURS else 1.1
            axes.plot([row["batch"] for row in own], [row["pairs_per_s"] for row in own], "o-",
                      label=name, color=COLORS[name], linewidth=width, markersize=3)  # fmt: skip
    batches = sorted({row["batch"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("pairs per call")
    axes.set_ylabel("pairs per second")
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
