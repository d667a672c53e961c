"""``esccs-edge evaluate``: how good a bundle is on a labeled data set, by cloud cover."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .completion import complete_files
from .evaluate_maps import evaluate_maps
from .options import (
    backend_option,
    bundle_argument,
    clouds_option,
    device_option,
    flavor_option,
    open_bundle,
    precision_option,
    simulate_sar_option,
)
from .progress import Progress
from .shell import CommandResult, command

if TYPE_CHECKING:
    from esccs_edge.training.datasets import PairDataset

COLUMNS = ("n", "failed", "oa", "balanced_accuracy", "macro_f1", "kappa", "ece")


@command(
    "evaluate",
    help="""
    Judge BUNDLE on labeled pairs, by cloud cover.

    INDEX is an index.csv, or eurosat:FOLDER and the like. For a scene classification, reports
    overall accuracy, balanced accuracy, macro F1, kappa and expected calibration error,
    in total and per 20 % of cloud cover; for a segmentation, mIoU of all, clear and cloudy pixels
    and more, where INDEX has a map of classes per pair (ombria:FOLDER, or a column 'mask').
    Data without SAR are judged on the optical images alone.
    Clouds and SAR are simulated on request, and what is simulated is named below the table.

    With --judge, INDEX is real triplets without labels (sen12ms-cr:PATH): reports how often the
    answers on cloudy, clear and SAR images agree with the judge, with intervals over places.
    """,
    example="""
    esccs-edge evaluate default index.csv
    esccs-edge evaluate runs/first/bundle eurosat:data/eurosat-ms --clouds 7 --json
    esccs-edge evaluate default eurosat:data/eurosat-ms --simulate-sar
    esccs-edge evaluate runs/floods/bundle ombria:data/ombria --clouds 7
    esccs-edge evaluate default sen12ms-cr:data/sen12ms-cr/triplets.npz --judge judge.npz
    """,
)
@bundle_argument
@click.argument("index", shell_complete=complete_files)
@clouds_option
@simulate_sar_option
@click.option("--split", default="test", show_default=True, help="Rows to judge.")
@click.option("--only", type=click.Choice(["optical", "sar"]), help="Hold the other modality back.")
@click.option(
    "--same",
    metavar="CLASS=NAME",
    multiple=True,
    help="Segmentation: what a class of the model is called in the data; once for each class.",
)
@click.option(
    "--judge",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.npz",
    help="Real triplets: what an independent judge says of their clear images.",
)
@backend_option
@precision_option
@device_option
@flavor_option
def run(
    bundle: str,
    index: str,
    clouds: tuple[int, ...],
    simulate_sar: bool,
    split: str,
    only: Literal["optical", "sar"] | None,
    same: tuple[str, ...],
    judge: Path | None,
    backend: str,
    precision: Any,
    device: str | None,
    flavor: Any,
) -> CommandResult:
    where = {"backend": backend, "precision": precision, "device": device, "flavor": flavor}
    if judge is not None:
        if clouds or simulate_sar or only or same or split != "test":
            raise click.UsageError("--judge takes all chips as they are, without other choices")
        return _judged(bundle, index, judge, where)
    from esccs_edge.contracts.cloud_bins import CLOUD_BINS
    from esccs_edge.training.datasets import open_dataset
    from esccs_edge.training.judging.evaluate import evaluate

    from ..classifier import Classifier
    from ..contracts.tasks.semantic_segmentation import SemanticSegmentation

    opened = open_bundle(bundle)
    if opened.manifest.task == SemanticSegmentation.name:
        if simulate_sar:
            raise click.UsageError("--simulate-sar is for scene classification")
        return evaluate_maps(
            opened, index, where, clouds=clouds, split=split, only=only, named=_named(same)
        )
    if same:
        raise click.UsageError("--same is for semantic segmentation")
    rounds = len(clouds) * len(CLOUD_BINS) or 1
    with (
        Classifier(opened, **where) as classifier,
        Progress("evaluate") as progress,
    ):
        dataset = open_dataset(index, manifest=opened.manifest)
        watched = _Watched(dataset, list(dataset.splits).count(split) * rounds, progress)
        report = evaluate(
            classifier, watched, clouds_seeds=clouds, split=split, only=only,
            simulate_sar=simulate_sar,
        )  # fmt: skip
        backend_used = classifier.health().backend
    report = {**report, "model": backend_used["model"], "precision": backend_used["precision"]}
    return CommandResult(report, _table(report))


def _named(same: tuple[str, ...]) -> dict[str, str]:
    named: dict[str, str] = {}
    for text in same:
        name, equals, other = text.partition("=")
        if not equals or not other or name in named:
            raise click.BadParameter(
                f"{text!r}, expected CLASS=NAME, each class once", param_hint="--same"
            )
        named[name] = other
    return named


def _judged(bundle: str, index: str, judge: Path, where: dict[str, Any]) -> CommandResult:
    from esccs_edge.training.datasets import open_dataset
    from esccs_edge.training.datasets.clear_judge import with_judge
    from esccs_edge.training.datasets.triplets import Chips
    from esccs_edge.training.judging.agreement import agreement_table
    from esccs_edge.training.judging.real_chips import judge_bundle

    from ..classifier import Classifier

    chips = open_dataset(index)
    if not isinstance(chips, Chips):
        raise click.UsageError(f"--judge needs real triplets, such as sen12ms-cr:PATH, not {index}")
    with Classifier(bundle, **where) as classifier:
        size = classifier.manifest.sample.height
        report = judge_bundle(classifier, with_judge(chips.of_size(size), judge))
        used = classifier.health().backend
    report = {**report, "simulated": [], "model": used["model"], "precision": used["precision"]}
    note = f"  answered by {used['model']} in {used['precision']}; nothing is simulated"
    return CommandResult(report, f"{agreement_table(report)}\n{note}")


class _Watched:
    """A data set that reports how many of its pairs were read."""

    def __init__(self, dataset: PairDataset, total: int, progress: Progress) -> None:
        self._dataset, self._total, self._progress = dataset, total, progress
        self._read = 0

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def pair(self, index: int) -> Any:
        self._read += 1
        self._progress(self._read, self._total)
        return self._dataset.pair(index)


def _table(report: Mapping[str, Any]) -> str:
    rows = {"overall": report["overall"], **report["by_cloud"]}
    widths = {name: max(len(name), 6) + 2 for name in COLUMNS}
    header = f"{'cloud, %':>10}" + "".join(f"{name:>{width}}" for name, width in widths.items())
    from esccs_edge.training.judging.evaluate import simulated_words

    simulated = simulated_words(report["simulated"])
    return "\n".join(
        [header]
        + [
            f"{name:>10}" + "".join(f"{_cell(row[c]):>{width}}" for c, width in widths.items())
            for name, row in rows.items()
        ]
        + [f"  answered by {report['model']} in {report['precision']}"]
        + ([f"  simulated: {simulated}"] if simulated else [])
    )


def _cell(value: float | None) -> str:
    """An empty bin has no measures."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
