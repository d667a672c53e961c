"""A comparison of segmentation in a few numbers: who leads among equals, and against the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..judging.map_metrics import PIXELS
from ..methods.maps import AS_DRAWN, DRAWN, FUSION, HEADLINE, REFERENCE
from ..methods.maps.told import MapTold
from ..methods.told import differences
from .contest import Contest
from .map_ranking import Counted, miou_alone, miou_lead
from .significance import Difference

#: Name of a contest -> its reference and its rows.
CONTESTS = {"headline": (REFERENCE, HEADLINE), "as_drawn": (DRAWN, AS_DRAWN)}
_WORDS = {
    "headline": "rows that are given the same",
    "as_drawn": "rows of its kind that are told the same",
}


def summarize(
    counted: Counted, told: Mapping[str, MapTold], names: Sequence[str]
) -> dict[str, Any]:
    """Return the numbers a reader wants first, in mIoU as shares, means over seeds.

    Args:
        counted: Method -> what it counted.
        told: Method -> what it is told.
        names: The rows that were run.

    Returns:
        Those of the following whose rows were run.

        - ``headline``: ours among the rows that are given the same; ``as_drawn``: CloudSeg among
          those that are told the same as it; see `contest.Contest.result`.
        - ``plain``: ours beside each row of one modality or plain fusion: what it is told
          more or less (``unlike``), and its lead by pixels. No contest.

    Raises:
        ValueError: Rows of a contest are not told the same.
    """
    found: dict[str, Any] = {}
    for what, (reference, members) in CONTESTS.items():
        known = [name for name in members if name in names]
        if reference in known and len(known) > 1:
            asked = Contest.of(reference, known, told)
            found[what] = asked.result(lambda one, other: _lead(counted, one, other))
    plain = [name for name in FUSION if name in names]
    if REFERENCE in names and plain:
        found["plain"] = {name: _beside(counted, told, name) for name in plain}
    return found


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary in sentences, as a Markdown list."""
    lines = []
    for what, words in _WORDS.items():
        if what in summary:
            found = summary[what]
            best = found["rivals"][found["best"]]
            p = "" if best["p_holm"] is None else f" (p {best['p_holm']:.3f}, Holm over all)"
            lines.append(
                f"- {found['reference']} among {len(found['rivals'])} {words}: {points(best)} "
                f"points of mIoU against the best, {found['best']}{p}."
            )
    for name, found in summary.get("plain", {}).items():
        lines.append(
            f"- {REFERENCE} beside {name}, which differs in {', '.join(found['unlike'])}: "
            f"{points(found['all'])} points, at cloudy pixels {points(found['cloudy'])}."
        )
    return lines


def points(found: Mapping[str, float | None] | None) -> str:
    """Return a difference in points with its interval, as far as they are known."""
    if found is None or found["value"] is None:
        return "-"
    low, high = found["low"], found["high"]
    interval = "" if low is None or high is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{100 * found['value']:+.1f}{interval}"


def _beside(counted: Counted, told: Mapping[str, MapTold], name: str) -> dict[str, Any]:
    leads = {pixels: miou_lead(counted, REFERENCE, name, pixels) for pixels in PIXELS}
    return {
        "method": name,
        "miou": vars(_known(miou_alone(counted, name, "all"))),
        "unlike": differences(told[REFERENCE], told[name]),
        **{pixels: None if lead is None else vars(lead) for pixels, lead in leads.items()},
    }


def _lead(counted: Counted, first: str, second: str) -> Difference:
    return _known(miou_lead(counted, first, second))


def _known(found: Difference | None) -> Difference:
    assert found is not None, "a judged image has a pixel that counts"
    return found
