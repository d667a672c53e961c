"""Joint-FRP beside its baselines on WorldCereal: five seeds, one test set, fixed masks.

Trains what is not there yet (a run folder per part and seed; a killed one goes on), judges all of
it under the same masks, and prints the tables of docs/series.md. Intervals draw places and seeds.

    python docs/series_comparison.py --data ../shared/data/worldcereal --out runs/series
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from esccs_edge.contracts.types import Doubles
from esccs_edge.training.comparison.significance import crossed
from esccs_edge.training.datasets.series import MemorySeries
from esccs_edge.training.datasets.series_kinds import open_series
from esccs_edge.training.judging.metrics import confusion_matrix
from esccs_edge.training.judging.series_judge import answerers
from esccs_edge.training.judging.series_scores import RATES, answered_series
from esccs_edge.training.learning.tasks import learning_task
from esccs_edge.training.options_file import read_options
from esccs_edge.training.run import train
from esccs_edge.training.samples.series_samples import FixedGaps, SeriesSamples
from esccs_edge.training.series_options import SeriesClassificationOptions
from esccs_edge.training.simulate.missing_dates import PATTERNS

FRANCE, CORSICA = "2023_FRA_LPIS_POLY_110.geoparquet", "2022_FRA_LPIS_POLY_110.geoparquet"
CONFIG = Path(__file__).parents[1] / "training" / "configs" / "worldcereal.toml"
SEEDS = 5
DRAWS = 1000
#: Five ways to learn with missing dates, then further rows.
BASELINES = {
    "teacher": "trained on complete series",
    "teacher, interpolated": "... gaps filled by lines",
    "teacher, carried forward": "... by the last value",
    "masks": "masked dates, labels alone",
    "reconstruction": "reconstruction, not coupled",
    "answers": "teacher's answers, no reconstruction",
    "attention": "temporal attention, masked dates",
    "random forest": "random forest, gaps filled by lines",
}
#: Row by which rates are read: at least this many dates are missing.
HIGH_RATE = 0.3


@dataclass(frozen=True)
class Part:
    """What is learned from the places of France, and where it is judged besides.

    Attributes:
        legend: Which classes.
        step: Slots of the calendar.
        sensors: Those that are learned from.
        elsewhere: File of another region to judge on too.
    """

    legend: str
    step: str = "dekad"
    sensors: tuple[str, ...] = ("optical",)
    elsewhere: str = ""


PARTS = {
    "crops": Part("crops"),
    "cropland": Part("cropland"),
    "elsewhere": Part("cropland", "month", elsewhere=CORSICA),
    "both": Part("crops", sensors=("optical", "sar")),
}
#: What is counted of one row: confusion matrices ``(seeds, places, ways of missing, K, K)``.
Counts = dict[str, Doubles]


def measure(name: str, part: Part, data: Path, out: Path, seeds: int) -> dict[str, Counts]:
    """Train and judge a part; returns ``{"test" or "elsewhere": row -> counts}``."""
    found: dict[str, list[Counts]] = {}
    for seed in range(seeds):
        options = _options(part, data, out / name / str(seed), seed)
        train(options, resume=(Path(options.out) / "options.json").is_file())
        task = learning_task(options.task)
        run = task.open(options, task.open_data(options), Path(options.out))
        networks = task.train(run)  # they are there: this reads them
        rows = answerers(run, networks)
        sensors = tuple(run.modalities)
        judged = {"test": run.samples("test", FixedGaps())}
        if part.elsewhere:
            other = open_series(f"worldcereal:{data / part.elsewhere}", options.series, 0)
            assert isinstance(other, MemorySeries)
            whole = replace(other, splits=("test",) * len(other))
            judged["elsewhere"] = SeriesSamples(whole, "test", run.modalities, FixedGaps(), seed)
        for where, samples in judged.items():
            found.setdefault(where, []).append(_counts(rows, samples, sensors))
    return {
        where: {row: np.stack([one[row] for one in parts]) for row in parts[0]}
        for where, parts in found.items()
    }


def _options(part: Part, data: Path, out: Path, seed: int) -> SeriesClassificationOptions:
    options = read_options(
        CONFIG, data=f"worldcereal:{data / FRANCE}", out=str(out), seed=seed, baselines=True,
        threads=1, series={"legend": part.legend, "step": part.step, "sensors": part.sensors},
    )  # fmt: skip
    assert isinstance(options, SeriesClassificationOptions)
    return options


def _counts(rows: Mapping[str, object], samples: SeriesSamples, sensors: Sequence[str]) -> Counts:
    dataset = samples.dataset
    classes = len(dataset.classes)
    groups = np.array(dataset.groups)[samples.indices]
    places = [groups == name for name in sorted(set(groups))]
    found: dict[str, list[Doubles]] = {}
    for one in answered_series(rows, samples, sensors):  # type: ignore[arg-type]
        if one.shown != "+".join(sensors):
            continue
        said, known = one.logits.argmax(axis=1), one.labels >= 0
        found.setdefault(one.network, []).append(
            np.stack([
                confusion_matrix(one.labels[at & known], said[at & known], classes)[:, :classes]
                for at in places
            ]).astype(float)
        )  # fmt: skip
    return {name: np.stack(parts, axis=1) for name, parts in found.items()}


def macro_f1(counts: Doubles) -> Doubles:
    """``(..., ways, K, K)`` -> ``(...)``: mean F1 of the classes, mean over the ways of missing."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    total = counts.sum(axis=-1) + counts.sum(axis=-2)
    f1 = np.divide(2 * right, total, out=np.zeros_like(right), where=total > 0)
    there = counts.sum(axis=-1) > 0
    found: Doubles = (np.where(there, f1, 0).sum(axis=-1) / there.sum(axis=-1)).mean(axis=-1)
    return found


def ways(*rates: float) -> list[int]:
    """Return the places of the rates among the ways of missing, which go pattern by pattern."""
    return [i for i in range(len(PATTERNS) * len(RATES)) if RATES[i % len(RATES)] in rates]


def gain(counts: Counts, rates: Sequence[float]) -> tuple[float, float, float]:
    """Points by which the student leads the mean of all baselines, with its 95 % interval."""
    names = ["student", *(name for name in BASELINES if name in counts)]
    stacked = np.stack([counts[name][:, :, ways(*rates)] for name in names], axis=2)

    def lead(drawn: Doubles) -> Doubles:
        each = macro_f1(drawn)  # (draws, seeds, rows)
        lead: Doubles = each[..., 0] - each[..., 1:].mean(axis=-1)
        return lead

    found = crossed([stacked], lead, draws=DRAWS)
    assert found.low is not None and found.high is not None  # there are several places
    return 100 * found.value, 100 * found.low, 100 * found.high


def table(counts: Counts) -> str:
    """Return the rows by missing rate, mean over patterns and seeds, in points."""
    rows = {"student": "**Joint-FRP**", **BASELINES}
    lines = ["| row | " + " | ".join(f"{rate:g}" for rate in RATES) + " | mean |",
             "|" + "---|" * (len(RATES) + 2)]  # fmt: skip
    for name, words in rows.items():
        if name in counts:
            by_rate = [100 * macro_f1(_summed(counts[name][:, :, ways(r)])).mean() for r in RATES]
            cells = [f"{value:.1f}" for value in (*by_rate, np.mean(by_rate))]
            lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def claims(counts: Counts) -> list[str]:
    """Return what the paper claims, in words and numbers of this measurement."""
    mean = {
        rate: {n: 100 * macro_f1(_summed(c[:, :, ways(rate)])).mean() for n, c in counts.items()}
        for rate in RATES
    }
    behind = []
    for rate in (rate for rate in RATES if rate >= HIGH_RATE):
        best = max(BASELINES.keys() & counts.keys(), key=lambda name: mean[rate][name])
        behind.append(f"{rate:g}: {mean[rate]['student'] - mean[rate][best]:+.1f} ({best})")
    lead, high = gain(counts, RATES), gain(counts, [r for r in RATES if r >= HIGH_RATE])
    whole = mean[0.0]["student"] - mean[0.0]["teacher"]
    return [
        "above the mean of all baselines: {:+.1f} [{:+.1f}, {:+.1f}] at all rates, "
        "{:+.1f} [{:+.1f}, {:+.1f}] from {:g} on".format(*lead, *high, HIGH_RATE),
        f"against the best baseline: {'; '.join(behind)}",
        f"on series as they are, against their teacher: {whole:+.1f}",
    ]


def _summed(counts: Doubles) -> Doubles:
    """``(S, P, ...)`` -> ``(S, ...)``."""
    found: Doubles = counts.sum(axis=1)
    return found


def main() -> None:
    """Measure the parts that are asked for and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the WorldCereal files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--part", choices=PARTS, action="append", help="may be repeated [all]")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args()
    for name in given.part or PARTS:
        for where, counts in measure(name, PARTS[name], given.data, given.out, given.seeds).items():
            print(f"\n### {name}, {where}: {PARTS[name]}\n\n{table(counts)}\n")
            print("\n".join(f"- {line}" for line in claims(counts)), flush=True)


if __name__ == "__main__":
    main()
