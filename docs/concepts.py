"""Draw the figures of docs/concepts.md: boxes and arrows, and the weights that blend patches.

python docs/concepts.py
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from esccs_edge.scenes.tiling import positions, window_weights

IMAGES = Path(__file__).parent / "images"
INK, FAINT, LINE = "#1f2a2e", "#5d6b70", "#9aa7ab"
#: What a box is: an input, something that learns, something that decides, an answer.
FILLS = {"input": "#e8f0f7", "network": "#dcefe6", "rule": "#fbeed3", "answer": "#efe6f5"}
DPI = 130
matplotlib.rcParams["font.family"] = "DejaVu Sans"


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty page whose unit is a tenth of an inch."""
    figure = Figure(figsize=(width / 10, height / 10), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(
    axes: Axes, at: tuple[float, float, float, float], kind: str, title: str, text: str = ""
) -> None:
    """Draw a box at (left, bottom, width, height) with a title and smaller lines below it."""
    left, bottom, width, height = at
    shape = FancyBboxPatch((left, bottom), width, height, boxstyle="round,pad=0,rounding_size=0.8",
                           facecolor=FILLS[kind], edgecolor=LINE, linewidth=1)  # fmt: skip
    axes.add_patch(shape)
    lines = text.count("\n") + 1 if text else 0
    middle, center = left + width / 2, bottom + height / 2 + 0.75 * lines
    axes.text(middle, center, title, ha="center", va="center", size=10, weight="bold", color=INK)
    if text:
        axes.text(middle, center - 1.2, text, ha="center", va="top", size=8.2, color=FAINT,
                  linespacing=1.35)  # fmt: skip


def arrow(axes: Axes, *points: tuple[float, float], word: str = "", dashed: bool = False,
          lift: float = 0.9) -> None:  # fmt: skip
    """Draw an arrow through points, with a word above the middle of its first part."""
    for (x, y), (to_x, to_y) in zip(points[:-2], points[1:-1], strict=True):
        axes.plot([x, to_x], [y, to_y], color=FAINT, lw=1.3, ls=(0, (4, 3)) if dashed else "-")
    axes.annotate("", points[-1], points[-2], arrowprops={
        "arrowstyle": "-|>", "color": FAINT, "lw": 1.3, "shrinkA": 0, "shrinkB": 0,
        "linestyle": (0, (4, 3)) if dashed else "-",
    })  # fmt: skip
    if word:
        x, y = (points[0][0] + points[1][0]) / 2, (points[0][1] + points[1][1]) / 2
        axes.text(x, y + lift, word, ha="center", va="center", size=8, color=FAINT,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip


def learning() -> Figure:
    """How the student learns: teacher, auxiliaries, regulation."""
    figure, axes = canvas(104, 50)
    inputs = ("clear optical", "with labels"), ("cloudy optical", "no labels"), ("SAR", "no labels")
    for y, (title, text) in zip((39, 23, 7), inputs, strict=True):
        box(axes, (2, y, 15, 8), "input", title, text)
    box(axes, (26, 39, 17, 8), "network", "teacher", "learns the labels")
    box(axes, (26, 23, 17, 8), "network", "optical auxiliary", "under clouds")
    box(axes, (26, 7, 17, 8), "network", "SAR auxiliary")
    for y in (43, 27, 11):
        arrow(axes, (17, y), (26, y))
    arrow(axes, (34.5, 39), (34.5, 31), word="answers that can be trusted teach", lift=0)
    arrow(axes, (43, 45), (47.5, 45), (47.5, 11), (43, 11))
    box(axes, (53, 9, 21, 20), "rule", "regulation (IRM)",
        "per sample: how far does\neach modality alone support\nthe trusted decision?\n\n"
        "the weaker one's loss weighs\nmore, the gate learns to\nfollow the stronger")  # fmt: skip
    arrow(axes, (43, 27), (53, 27))
    arrow(axes, (43, 9.5), (53, 9.5))
    parts = "optical branch\nSAR branch\ngate\nhead\n\nsees the cloudy pair\nand is all that ships"
    box(axes, (82, 12, 20, 28), "network", "student", parts)
    arrow(axes, (43, 43), (92, 43), (92, 40))
    axes.text(66, 44.1, "what to answer", ha="center", size=8, color=FAINT)
    arrow(axes, (74, 23.5), (82, 23.5), word="weights", lift=1.1)
    arrow(axes, (74, 15), (82, 15), word="gate", lift=1.1)
    arrow(axes, (9.5, 23), (9.5, 20), (49.5, 20), (49.5, 4), (92, 4), (92, 12), dashed=True)
    arrow(axes, (9.5, 7), (9.5, 4), (49.6, 4), (92, 4), (92, 12), dashed=True)
    return figure


def running() -> Figure:
    """How a pair runs at the station."""
    figure, axes = canvas(104, 36)
    box(axes, (2, 22, 15, 9), "input", "optical", "raw numbers\nas delivered")
    box(axes, (2, 5, 15, 9), "input", "SAR", "dB, or linear\nor absent")
    for y in (22, 5):
        box(
            axes,
            (24, y, 19, 9),
            "rule",
            "preprocess",
            "one pass over the pixels;\ncounts what is valid",
        )
        arrow(axes, (17, y + 4.5), (24, y + 4.5))
    axes.add_patch(Rectangle((50, 2), 36, 32, facecolor="#f6faf8", edgecolor=LINE, lw=1.2))
    axes.text(68, 31.8, "one network, one engine", ha="center", size=8.6, color=FAINT)
    box(axes, (52, 22, 14, 8), "network", "optical branch")
    box(axes, (52, 5, 14, 8), "network", "SAR branch")
    box(axes, (70, 12, 14, 11), "network", "gate, head", "two shares, sum 1;\nthen the classes")
    for y, corner in ((26, 23), (9, 12)):
        arrow(axes, (43, y + 0.5), (52, y + 0.5))
        arrow(axes, (66, y), (77, y), (77, corner))
    arrow(axes, (43, 23.5), (47, 23.5), (47, 17.5), (70, 17.5), dashed=True)
    axes.plot([43, 47, 47], [12, 12, 17.5], color=FAINT, lw=1.3, ls=(0, (4, 3)))
    axes.text(58, 18.7, "share of valid pixels", ha="center", size=8, color=FAINT)
    box(axes, (90, 9, 13, 17), "answer", "answer", "class\nconfidence\ngate\nflags")
    arrow(axes, (84, 17.5), (90, 17.5))
    return figure


def blending() -> Figure:
    """How a scene is cut into patches and their answers are blended."""
    figure = Figure(figsize=(10.4, 3.9), dpi=DPI, facecolor="white")
    cut, blend = figure.subplots(1, 2, width_ratios=(1, 1.5))
    patch, height, width = 64, 150, 190
    starts = positions(height, patch, patch // 2), positions(width, patch, patch // 2)
    cut.add_patch(Rectangle((0, 0), width, height, facecolor=FILLS["input"], edgecolor=INK, lw=1.4))
    for top in starts[0]:
        for left in starts[1]:
            cut.add_patch(Rectangle((left, top), patch, patch, fill=False, edgecolor=LINE, lw=0.8))
    for left, color in ((0, "#2b7a3d"), (patch // 2, "#b8791d"), (starts[1][-1], "#7a4d96")):
        cut.add_patch(Rectangle((left, 0), patch, patch, fill=False, edgecolor=color, lw=2.2))
    cut.set(xlim=(-4, width + 4), ylim=(height + 4, -4), aspect="equal",
            title="cut: half overlap, the last one ends at the edge")  # fmt: skip
    cut.axis("off")
    one, total = window_weights(patch), np.zeros(width)
    for left in starts[1]:
        blend.plot(left + np.arange(patch) + 0.5, one, color=LINE, lw=1.2)
        total[left : left + patch] += one
    for left, color in ((0, "#2b7a3d"), (patch // 2, "#b8791d"), (starts[1][-1], "#7a4d96")):
        blend.plot(left + np.arange(patch) + 0.5, one, color=color, lw=2.4)
    blend.plot(np.arange(width) + 0.5, total, color=INK, lw=1.4, ls=(0, (4, 2)))
    blend.text(40, total[58] + 0.06, "their sum, by which the map divides", size=8.5, color=INK)
    blend.set(xlim=(0, width), ylim=(0, 1.75), xlabel="pixel along a row of the scene",
              ylabel="weight of a patch",
              title="blend: probabilities, weighed down toward a patch's edges")  # fmt: skip
    for side in ("top", "right"):
        blend.spines[side].set_visible(False)
    for axes in (cut, blend):
        axes.title.set(size=9.5, color=INK)
    figure.tight_layout()
    return figure


def main(figures: Iterable[tuple[str, Figure]]) -> None:
    """Write the figures."""
    for name, figure in figures:
        figure.savefig(IMAGES / f"concept-{name}.png")


if __name__ == "__main__":
    main((("learning", learning()), ("running", running()), ("blending", blending())))
