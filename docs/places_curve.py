"""How far more places carry: the default model's recipe, taught by real pairs of some of them.

Each number of places is a cross-validation of its own, in shorter schedules than the model's;
places that teach are always among those of larger numbers, and a fold is judged by the same chips
throughout. Prints a Markdown table; what is finished is kept in the folder.

    python docs/places_curve.py ../shared/data runs/places
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from esccs_edge.cli.training_options import training_options
from esccs_edge.training.cross_validation import cross_validate
from esccs_edge.training.scene_options import FoldOptions

CONFIG = Path(__file__).parents[1] / "training" / "configs" / "eurosat.toml"
#: Places that teach; of six, a fold of four leaves four or five.
PLACES, FOLDS = (1, 2, 4), 4
SHORTER = (
    "teacher.members=1", "teacher.schedule.epochs=40", "auxiliary.schedule.epochs=15",
    "student.schedule.epochs=20", "threads=1",
)  # fmt: skip
ROWS = ("SAR", "cloudy optical", "cloudy + SAR")


def measured(data: Path, out: Path, places: int) -> dict[str, Any]:
    """Return the report of one number of places; see `fold_report`."""
    triplets = data / "sen12ms-cr"
    changes = (
        *SHORTER,
        f"real_pairs.data=sen12ms-cr:{triplets / 'triplets.npz'}",
        f"real_pairs.places={places}",
        f"clouds.textures={triplets / 'cloudy-clear'}",
    )
    options = training_options(CONFIG, {}, changes).evolve(
        data=f"eurosat:{data / 'eurosat-ms'}", out=str(out), folds=FoldOptions(count=FOLDS)
    )
    report = cross_validate(options, judge=triplets / "judge.npz")
    assert report is not None  # all folds were asked for
    return report


def table(reports: dict[int, dict[str, Any]]) -> str:
    """Return Markdown: percent of chips and their interval, then the mean over places."""
    lines = [
        "| places that teach | "
        + " | ".join(f"{row}: chips | mean of places" for row in ROWS)
        + " |",
        "|---" * (1 + 2 * len(ROWS)) + "|",
    ]
    for places, report in reports.items():
        cells = [str(places)]
        for row in ROWS:
            scores = report["real"]["rows"][row]
            cells += [_percent(scores["all"]), _percent(scores["place_mean"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(found: dict[str, float]) -> str:
    value, low, high = (round(100 * found[name]) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def main() -> None:
    """Train, judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    print(table({n: measured(given.data, given.out / str(n), n) for n in PLACES}))


if __name__ == "__main__":
    main()
