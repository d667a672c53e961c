"""How often answers agree with a judge's labels of real chips: per cloud, place and class.

Chips of one place repeat each other, so intervals draw whole places with replacement, and every
number stands beside that of always answering the most frequent class. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, cloud_bin
from esccs_edge.contracts.types import Array, Doubles, Labels

DRAWS = 4000
LEVEL = 0.95
#: Name of the row that always answers the most frequent class.
MAJORITY = "majority class"


@dataclass(frozen=True)
class JudgedChips:
    """What a judge says of N chips, all of which it is sure of.

    Attributes:
        labels: ``(N,)`` position of the judge's class.
        places: ``(N,)`` name of the place.
        covers: ``(N,)`` share of cloud; NaN where not known.
        classes: Class names.
    """

    labels: Labels
    places: Array
    covers: Doubles
    classes: tuple[str, ...]


def agreement(
    chips: JudgedChips, answers: Mapping[str, Labels], *, seed: int = 0, draws: int = DRAWS
) -> dict[str, Any]:
    """Compare answers with the judge; all numbers are shares.

    Args:
        chips: What the judge says.
        answers: Row -> class ``(N,)`` that was answered, -1 without an answer, which counts as
            wrong. A place may have been answered by another model than the next one.
        seed: Of the draws of places.
        draws: Number of draws; all rows are resampled by the same ones.

    Returns:
        ``n``, ``places`` (place -> chips), ``majority_class``, ``seed``, ``draws`` and ``rows``:
        row -> ``all`` (of all chips), ``balanced`` (mean over classes), ``place_mean`` (mean over
        places), each ``{"value", "low", "high"}``; ``by_place`` (place -> share); ``by_cloud``
        (bin -> ``n`` and the same three numbers, over all chips); ``failed``. The last row is
        `MAJORITY`. An interval is None where fewer than two places hold chips.
    """
    counts = np.bincount(chips.labels, minlength=len(chips.classes))
    most = int(counts.argmax())
    rows = {**answers, MAJORITY: np.full(len(chips.labels), most, np.int64)}
    names, place = np.unique(chips.places, return_inverse=True)
    return {
        "n": len(chips.labels),
        "places": dict(zip(names.tolist(), np.bincount(place).tolist(), strict=True)),
        "majority_class": chips.classes[most],
        "seed": seed,
        "draws": draws,
        "rows": {name: _row(chips, answer, seed, draws) for name, answer in rows.items()},
    }


def difference(
    chips: JudgedChips, first: Labels, second: Labels, *, seed: int = 0, draws: int = DRAWS
) -> dict[str, Any]:
    """Return ``all``, ``balanced`` and ``place_mean`` of one row minus another, with intervals.

    Both are resampled by the same draws of places.
    """
    tables = [_tables(chips, answer) for answer in (first, second)]
    times = place_draws(len(tables[0][0]), seed, draws)
    ours, other = (_measures(*table, times) for table in tables)
    here = [_measures(*table, np.ones((1, len(table[0])))) for table in tables]
    return {
        name: interval(here[0][name][0] - here[1][name][0], ours[name] - other[name], times)
        for name in ours
    }


def _row(chips: JudgedChips, answer: Labels, seed: int, draws: int) -> dict[str, Any]:
    totals, hits = _tables(chips, answer)
    times = place_draws(len(totals), seed, draws)
    drawn = _measures(totals, hits, times)
    here = _measures(totals, hits, np.ones((1, len(totals))))
    names = np.unique(chips.places).tolist()
    share = hits.sum(axis=1) / totals.sum(axis=1)
    return {
        **{name: interval(here[name][0], drawn[name], times) for name in here},
        "by_place": dict(zip(names, share.tolist(), strict=True)),
        "by_cloud": _by_cloud(chips, answer, seed, draws),
        "failed": int((answer < 0).sum()),
    }


def _by_cloud(chips: JudgedChips, answer: Labels, seed: int, draws: int) -> dict[str, Any]:
    place = np.array([-1 if np.isnan(c) else cloud_bin(c) for c in chips.covers], np.int64)
    found: dict[str, Any] = {}
    for position, name in enumerate(CLOUD_BINS):
        inside = place == position
        if not inside.any():
            found[name] = {"n": 0, "value": None, "low": None, "high": None}
            continue
        part = JudgedChips(
            chips.labels[inside], chips.places[inside], chips.covers[inside], chips.classes
        )
        totals, hits = _tables(part, answer[inside])
        times = place_draws(len(totals), seed, draws)
        value = float(hits.sum() / totals.sum())
        drawn = _measures(totals, hits, times)["all"]
        found[name] = {"n": int(inside.sum()), **interval(value, drawn, times)}
    return found


def _tables(chips: JudgedChips, answer: Labels) -> tuple[Doubles, Doubles]:
    """Chips, and those answered as the judge does, per place and class ``(P, K)``."""
    _, place = np.unique(chips.places, return_inverse=True)
    shape = int(place.max()) + 1, len(chips.classes)
    totals, hits = np.zeros(shape), np.zeros(shape)
    np.add.at(totals, (place, chips.labels), 1)
    np.add.at(hits, (place, chips.labels), answer == chips.labels)
    return totals, hits


def place_draws(places: int, seed: int, draws: int) -> Doubles:
    """How often each place stands in each draw, ``(D, P)``."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(places, np.full(places, 1 / places), size=draws).astype(np.float64)


def _measures(totals: Doubles, hits: Doubles, times: Doubles) -> dict[str, Doubles]:
    """The three shares in each draw, ``(D,)``; classes that a draw lacks do not count in it."""
    total, hit = times @ totals, times @ hits
    recall = np.divide(hit, total, out=np.zeros_like(hit), where=total > 0)
    share = hits.sum(axis=1) / totals.sum(axis=1)
    return {
        "all": hit.sum(axis=1) / total.sum(axis=1),
        "balanced": recall.sum(axis=1) / (total > 0).sum(axis=1),
        "place_mean": times @ share / times.sum(axis=1),
    }


def interval(value: float, drawn: Doubles, times: Doubles) -> dict[str, float | None]:
    """Return a value and its interval over draws; None where fewer than two places were drawn.

    Args:
        value: Of all places.
        drawn: ``(D,)`` of each draw.
        times: As `place_draws` returned them.
    """
    if times.shape[1] < 2:
        return {"value": float(value), "low": None, "high": None}
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}


def agreement_table(report: Mapping[str, Any]) -> str:
    """Return a report as text, in percent; in brackets the 95 % interval over places."""
    header = ["", "all chips", "mean of places", "mean of classes", *(f"{b} %" for b in CLOUD_BINS)]
    table = [header, ["chips", str(report["n"]), "", "", *_bin_sizes(report)]]
    for name, row in report["rows"].items():
        measures = [_cell(row[key]) for key in ("all", "place_mean", "balanced")]
        bins = [_percent(part["value"]) for part in row["by_cloud"].values()]
        table.append([name, *measures, *bins])
    widths = [max(len(line[i]) for line in table) for i in range(len(header))]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in _rest(line, widths))])
        for line in table
    ]
    places = ", ".join(f"{place} ({n})" for place, n in report["places"].items())
    notes = (
        "  percent that agrees with a judge of the clear image; in brackets 95 % of "
        f"{report['draws']} draws of {len(report['places'])} places",
        f"  places (chips): {places}; the majority class is {report['majority_class']}",
    )
    return "\n".join([*(line.rstrip() for line in lines), *notes])


def _rest(line: Sequence[str], widths: Sequence[int]) -> zip[tuple[str, int]]:
    return zip(line[1:], widths[1:], strict=True)


def _bin_sizes(report: Mapping[str, Any]) -> list[str]:
    first = next(iter(report["rows"].values()))
    return [str(part["n"]) for part in first["by_cloud"].values()]


def _cell(part: Mapping[str, float | None]) -> str:
    if part["low"] is None:
        return _percent(part["value"])
    return f"{_percent(part['value'])} [{_percent(part['low'])}, {_percent(part['high'])}]"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"
