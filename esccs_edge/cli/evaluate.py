"""``esccs-edge evaluate``: how good a bundle is on a labelled data set, by cloud cover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from .options import backend_option
from .shell import Answer, command

COLUMNS = ("n", "failed", "oa", "balanced_accuracy", "macro_f1", "kappa", "ece")


@command(
    "evaluate",
    example="""
    esccs-edge evaluate default index.csv
    esccs-edge evaluate runs/first/bundle eurosat:data/eurosat-ms --clouds 7 --json
    """,
)
@click.argument("bundle")
@click.argument("index")
@click.option(
    "--clouds",
    type=int,
    metavar="SEED",
    help="Simulate clouds over the optical images, from this seed.",
)
@click.option("--split", default="test", show_default=True, help="Rows to judge.")
@backend_option
def run(bundle: str, index: str, clouds: int | None, split: str, backend: str) -> Answer:
    """Judge BUNDLE on labelled pairs, by cloud cover.

    INDEX is an index.csv, or eurosat:FOLDER and the like. Reports overall accuracy, balanced
    accuracy, macro F1, kappa and expected calibration error,
    in total and per 20 % of cloud cover.
    """
    from ..classifier import Classifier
    from ..training.datasets import open_source
    from ..training.evaluate import evaluate

    source = open_source(index)
    with Classifier(bundle, backend=backend) as classifier:
        report = evaluate(classifier, source, clouds_seed=clouds, split=split)
    return Answer(report, _table(report))


def _table(report: Mapping[str, Any]) -> str:
    rows = {"overall": report["overall"], **report["by_cloud"]}
    widths = {name: max(len(name), 6) + 2 for name in COLUMNS}
    header = f"{'cloud, %':>10}" + "".join(f"{name:>{width}}" for name, width in widths.items())
    return "\n".join(
        [header]
        + [
            f"{name:>10}" + "".join(f"{_cell(row[c]):>{width}}" for c, width in widths.items())
            for name, row in rows.items()
        ]
    )


def _cell(value: float | None) -> str:
    """An empty bin has no measures."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
