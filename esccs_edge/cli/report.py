"""``esccs-edge report``: what is known of a bundle or a run, as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .completion import complete_bundles, complete_files
from .options import (
    backend_option,
    clouds_option,
    digest_option,
    given_digest,
    precision_option,
    simulate_sar_option,
)
from .progress import Progress
from .report_samples import Judged, judge_samples
from .shell import CommandResult, command

if TYPE_CHECKING:
    from esccs_edge.training.judging.report_numbers import Mistake

    from ..contracts.bundle import Bundle
    from ..contracts.manifest import Manifest

#: Parts of a run's folder.
_BUNDLE, _HELDOUT = "bundle", Path("heldout", "index.csv")
_BATCHES = (1, 8, 32)
_SCENES = "scene-classification"
_WORST_PAIRS = (
    "Wrong answers that the model was surest of; optical left, SAR right, as it saw them."
)
_RECORDED = ("oa", "balanced_accuracy", "macro_f1", "miou", "n")


@command(
    "report",
    help="""
    Write a report on a run or bundle as one HTML page.

    Accuracy with intervals, confusion, reliability, mistakes, latency. RUN is the folder of a
    training run, BUNDLE a model bundle or 'default'. The page is one file that fetches and runs
    nothing: it can be mailed or kept. Scenes, maps and series are judged on labeled samples, by
    default on those that the run held out.
    """,
    example="""
    esccs-edge report runs/first
    esccs-edge report default --data eurosat:data/eurosat-ms --clouds 7 --out report.html
    """,
)
@click.argument("where", metavar="RUN|BUNDLE", shell_complete=complete_bundles)
@digest_option
@click.option(
    "--data",
    metavar="INDEX",
    shell_complete=complete_files,
    help="Labeled samples to judge on  [heldout/index.csv of a run].",
)
@click.option("--split", default="test", show_default=True, help="Rows to judge.")
@clouds_option
@simulate_sar_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    help="Time spent on each row of latency; 0 leaves latency out.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="File to write or replace  [report.html, in the folder of a run].",
)
@backend_option
@precision_option
def run(
    where: str,
    data: str | None,
    split: str,
    clouds: tuple[int, ...],
    simulate_sar: bool,
    seconds: float,
    out: Path | None,
    backend: str,
    precision: Any,
) -> CommandResult:
    from .. import __version__
    from ..contracts.bundle import Bundle
    from ..system.atomic import write_atomic
    from ..view.report.page import report_page

    folder = Path(where)
    is_run = (folder / _BUNDLE).is_dir()
    bundle = Bundle.open(str(folder / _BUNDLE) if is_run else where, digest=given_digest())
    target = out or (folder / "report.html" if is_run else Path("report.html"))
    asked = {"split": split, "clouds_seeds": clouds, "simulate_sar": simulate_sar}
    index = _index(bundle, data, folder if is_run else None, split)
    judge = _judge if bundle.manifest.task == _SCENES else judge_samples
    judged = (
        index
        if isinstance(index, Judged)
        else judge(bundle, index, asked, {"backend": backend, "precision": precision})
    )
    found = {
        "data": judged.data,
        "numbers": judged.numbers,
        "missing": judged.missing,
        "simulated": judged.simulated,
        "recorded": _recorded(bundle.manifest.provenance.get("metrics", {})),
        "latency": _latency(bundle, seconds, backend, precision),
        "version": __version__,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }
    page = report_page(bundle.manifest, bundle.digest, {**found, "examples": judged.examples},
                       judged.figures)  # fmt: skip
    write_atomic(target, page)
    document = {"path": target, **{k: v for k, v in found.items() if k != "recorded"}}
    return CommandResult(document, _text(target, judged))


def _index(bundle: Bundle, data: str | None, run: Path | None, split: str) -> str | Judged:
    """Return the data to judge on, or the reason that there are none."""
    manifest = bundle.manifest
    if manifest.model not in manifest.files:
        if data is not None:
            raise click.UsageError(f"the bundle has no {manifest.model}; run esccs-edge export")
        return Judged(missing="Not judged on pairs: the bundle is not exported yet.")
    if data is not None:
        return data
    if run is None or not (run / _HELDOUT).is_file():
        return Judged(missing="Not judged on pairs: none were given (--data INDEX).")
    from ..rasters.pair_index import read_index

    rows = read_index(run / _HELDOUT, manifest.classes, tuple(manifest.modalities)).rows
    if not any(row.split == split for row in rows):
        return Judged(missing=f"Not judged on pairs: the run holds out none as {split!r}.")
    return str(run / _HELDOUT)


def _judge(
    bundle: Bundle, index: str, asked: Mapping[str, Any], where: Mapping[str, Any]
) -> Judged:
    from esccs_edge.training.datasets import open_dataset
    from esccs_edge.training.judging.evaluate import (
        answered_pairs,
        simulated_parts,
        simulated_words,
    )
    from esccs_edge.training.judging.report_numbers import report_numbers

    from ..classifier import Classifier

    dataset = open_dataset(index, manifest=bundle.manifest)
    with Classifier(bundle, **where) as classifier, Progress("judge"):
        answered = answered_pairs(classifier, dataset, **asked)
        numbers, mistakes = report_numbers(answered, bundle.manifest.classes, dataset.groups)
    words = simulated_words(
        simulated_parts(dataset, asked["clouds_seeds"], None, asked["simulate_sar"])
    )
    learned = bundle.manifest.provenance.get("data", {})
    missing = ""
    if dataset.name == learned.get("name") and set(learned.get("pairs", {})) == {"train"}:
        missing = (
            f"The model learned on every pair of a data set of this name, {dataset.name}: what "
            "stands here flatters it. What it does on places that it never saw stands below."
        )
    channels = {"optical": dataset.optical_channels, "sar": dataset.sar_channels}
    simulated = [f"{words} of the pairs that are judged here"] if words else []
    figures = _figures(mistakes, bundle.manifest, channels)
    return Judged(dataset.name, numbers, figures, _WORST_PAIRS, simulated, missing)


def _latency(bundle: Bundle, seconds: float, backend: str, precision: Any) -> dict[str, Any] | None:
    if not seconds or bundle.manifest.model not in bundle.manifest.files:
        return None
    from ..bench.measure import Plan, bench
    from ..bench.report import document

    plan = Plan(_BATCHES, (None,), seconds, backend, precision, starts=1)
    with Progress("bench") as progress:
        return document(bench(bundle, plan, progress=progress), plan)


def _figures(
    mistakes: Sequence[Mistake], manifest: Manifest, channels: Mapping[str, Sequence[str]]
) -> list[str]:
    if not mistakes:
        return []
    from ..view.report.examples import data_picture
    from ..view.report.page import example_figure

    optical, sar = manifest.modalities.values()
    figures = []
    for one in mistakes:
        pictures = [
            data_picture(one.optical, optical, channels["optical"]),
            data_picture(one.sar, sar, channels["sar"]),
        ]
        gate = one.answer.gate
        cover = "not known" if one.cover is None else f"{one.cover:.0%}"
        facts = [
            f"confidence {one.answer.confidence:.2f}, cloud {cover}",
            f"gate: optical {gate.optical:.2f}, SAR {gate.sar:.2f}",
            f"pair {one.index}, place {one.group}",
            *sorted(flag.value for flag in one.answer.flags),
        ]
        figures.append(example_figure(pictures, one.answer.label, f"instead of {one.label}", facts))
    return figures


def _recorded(metrics: Mapping[str, Any]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Return the scores of all networks on the splits of their run, as tables."""
    tables = {}
    for split in ("val", "test"):
        rows = {
            name: report["overall"]
            for name, report in metrics.get(split, {}).items()
            if isinstance(report, Mapping) and "overall" in report
        }
        columns = [
            key for key in _RECORDED if any(row.get(key) is not None for row in rows.values())
        ]
        if rows:
            cells = [
                [name, *(_cell(row.get(key)) for key in columns)] for name, row in rows.items()
            ]
            tables[f"Networks of the run on its {split} split"] = (["network", *columns], cells)
    labeled = metrics.get("cross_validation", {}).get("labeled", {})
    if labeled:
        cells = [[name, _cell(row["balanced_accuracy"]), _cell(row["ece"])]
                 for name, row in labeled.items()]  # fmt: skip
        header = ["shown", "balanced accuracy", "calibration error"]
        tables["Cross-validation: places that the judged model never saw"] = (header, cells)
    real = metrics.get("cross_validation", {}).get("real", {})
    if real:
        cells = [[name, _with_interval(row["all"]), _with_interval(row["place_mean"])]
                 for name, row in real["rows"].items()]  # fmt: skip
        header = ["shown", "all chips", "mean of places"]
        places = f"{real['n']} chips of {len(real['places'])} places"
        tables[f"Real clouds and SAR: agreement with a judge of the clear image, {places}"] = (
            header, cells,
        )  # fmt: skip
    return tables


def _with_interval(part: Mapping[str, float | None]) -> str:
    low, high = part["low"], part["high"]
    return _cell(part["value"]) + ("" if low is None else f" [{low:.3f}, {high:.3f}]")


def _cell(value: float | None) -> str:
    if value is None:
        return "\u2013"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _text(target: Path, judged: Judged) -> str:
    if judged.numbers is None:
        return f"{target}\n  {judged.missing}"
    part = judged.numbers["agreement"]["all"]
    between = "" if part["low"] is None else f" [{part['low']:.3f}, {part['high']:.3f}]"
    note = [f"  {judged.missing}"] * bool(judged.missing)
    lines = [
        str(target),
        f"  accuracy {part['value']:.3f}{between} on {judged.numbers['counted']:,} "
        f"{judged.numbers['unit']}",
        *note,
    ]
    return "\n".join(lines + [f"  simulated: {words}" for words in judged.simulated])
