"""Charts as inline SVG, drawn by hand so that a page needs no script and no font of its own.

Colors are the variables of the page's style sheet, so a chart follows its light and dark form.
Every mark has a ``<title>``, which a browser shows on hovering and reads aloud.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 460, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 50
_CELL = 34


def chart_by_cloud(by_cloud: Mapping[str, Mapping[str, Any]], lacking: str, measure: str) -> str:
    """Draw a measure with its interval, and the mean share of optical, over bins of cloud cover.

    Args:
        lacking: What the bins are of, for the axis.
        measure: What ``value`` is.
        by_cloud: Bin in percent -> ``{n, value, low, high, gate_optical}``, shares or None.
    """
    step = (_WIDTH - _LEFT - _RIGHT) / len(by_cloud)
    marks = [_axes(lacking, "Share, %")]
    middles = [_LEFT + step * (i + 0.5) for i in range(len(by_cloud))]
    for x, (name, row) in zip(middles, by_cloud.items(), strict=True):
        marks.append(_text(x, _HEIGHT - _BOTTOM + 16, name.replace("-", "\u2013"), "tick"))
        marks.append(_text(x, _HEIGHT - _BOTTOM + 28, f"n = {short_count(row['n'])}", "tick faint"))
        if row["value"] is not None and row["low"] is not None:
            low, high = _y(row["low"]), _y(row["high"])
            marks.append(
                f'<path class="whisker" d="M{x:.1f} {low:.1f}V{high:.1f}M{x - 5:.1f} {low:.1f}h10'
                f'M{x - 5:.1f} {high:.1f}h10"/>'
            )
    for key, label, style in (
        ("gate_optical", "share of optical in the gate", "second"),
        ("value", measure, "first"),
    ):
        points = [
            (x, _y(row[key]), name, row)
            for x, (name, row) in zip(middles, by_cloud.items(), strict=True)
            if row[key] is not None
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
        marks.append(f'<polyline class="line {style}" points="{line}"/>')
        for x, y, name, row in points:
            title = f"{label} at {name} %: {percent(row[key])}"
            if key == "value" and row["low"] is not None:
                title += f" [{percent(row['low'])}, {percent(row['high'])}]"
            marks.append(_dot(x, y, style, title))
    return _svg(f"{measure} and gate against {lacking}", marks)


def chart_reliability(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw accuracy over confidence; bars of the bins, the diagonal of a calibrated model.

    Args:
        bins: ``{low, high, n, confidence, accuracy}`` each; empty ones have None.
    """
    marks = [_axes("Confidence, %", "Share right, %")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        marks.append(_text(_x(share), _HEIGHT - _BOTTOM + 16, f"{100 * share:.0f}", "tick"))
    most = max(row["n"] for row in bins)
    for row in bins:
        if not row["n"]:
            continue
        left, right, top = _x(row["low"]), _x(row["high"]), _y(row["accuracy"])
        title = (
            f"{row['n']} answers of {percent(row['low'])} to {percent(row['high'])}: "
            f"{percent(row['accuracy'])} right, mean confidence {percent(row['confidence'])}"
        )
        strength = 0.35 + 0.65 * row["n"] / most
        marks.append(
            f'<rect class="bar" x="{left + 1:.1f}" y="{top:.1f}" width="{right - left - 2:.1f}" '
            f'height="{_y(0) - top:.1f}" fill-opacity="{strength:.2f}">'
            f"<title>{escape(title)}</title></rect>"
        )
    marks.append(f'<path class="diagonal" d="M{_x(0):.1f} {_y(0):.1f}L{_x(1):.1f} {_y(1):.1f}"/>')
    points = " ".join(f"{_x(r['confidence']):.1f},{_y(r['accuracy']):.1f}" for r in bins if r["n"])
    marks.append(f'<polyline class="line first" points="{points}"/>')
    return _svg("Reliability", marks)


def chart_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Draw counts by true class (rows) and answer (columns), colored by the share of the row.

    Args:
        confusion: K rows of K + 1 counts, the last of pairs without an answer; its column is left
            out where it is empty.
        classes: Class names.
    """
    columns = [*classes, "no answer"] if any(row[-1] for row in confusion) else list(classes)
    longest = max(map(len, columns))
    side = 7 * min(longest, 24) + 16
    width, height = side + _CELL * len(columns) + side / 2, side + _CELL * len(classes) + 8
    marks = []
    for j, name in enumerate(columns):
        x = side + _CELL * (j + 0.5)
        marks.append(
            f'<text class="tick start" transform="translate({x + 4:.1f} {side - 8}) rotate(-60)">'
            f"{escape(_short(name))}</text>"
        )
    for i, (name, row) in enumerate(zip(classes, confusion, strict=True)):
        y = side + _CELL * i
        marks.append(_text(side - 8, y + _CELL / 2 + 4, _short(name), "tick end"))
        total = sum(row)
        for j, count in enumerate(row[: len(columns)]):
            share = count / total if total else 0.0
            kind = "hit" if i == j else "miss"
            x = side + _CELL * j
            title = f"{count} of {total} {name} answered {columns[j]} ({percent(share)})"
            marks.append(
                f'<g><title>{escape(title)}</title><rect class="cell {kind}" x="{x + 1}" '
                f'y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" rx="3" '
                f'fill-opacity="{0.06 + 0.94 * share if count else 0.04:.2f}"/>'
                + (_text(x + _CELL / 2, y + _CELL / 2 + 4, short_count(count),
                         "count strong" if share > 0.5 else "count") if count else "")
                + "</g>"
            )  # fmt: skip
    return _svg("Confusion: rows are true classes, columns answers", marks, width, height)


def short_count(count: int) -> str:
    """Return a count in at most four characters, such as 12k."""
    for size, letter in ((10_000_000, "M"), (10_000, "k")):
        if count >= size:
            return f"{count // (size // 10)}{letter}"
    return str(count)


def percent(share: float | None) -> str:
    """Return a share in percent, or a dash."""
    return "\u2013" if share is None else f"{100 * share:.1f} %"


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _axes(x_label: str, y_label: str) -> str:
    marks = [_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 2, x_label, "label")]
    marks.append(
        f'<text class="label" transform="translate(11 {_y(0.5):.0f}) rotate(-90)">{y_label}</text>'
    )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        marks.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        marks.append(_text(_LEFT - 6, y + 4, f"{100 * share:.0f}", "tick end"))
    return "".join(marks)


def _dot(x: float, y: float, style: str, title: str) -> str:
    return (
        f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">'
        f"<title>{escape(title)}</title></circle>"
    )


def _text(x: float, y: float, words: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "\u2026"


def _svg(name: str, marks: Sequence[str], width: float = _WIDTH, height: float = _HEIGHT) -> str:
    return (
        f'<svg role="img" aria-label="{escape(name)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="max-width:{width:.0f}px">{"".join(marks)}</svg>'
    )
