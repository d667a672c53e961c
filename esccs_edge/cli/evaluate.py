"""``esccs-edge evaluate``: how good a bundle is on a labelled data set, by cloud cover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from .options import backend_option
from .shell import Answer, command

COLUMNS = ("n", "oa", "balanced_accuracy", "macro_f1", "kappa", "ece")


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
    header = f"{'cloud %':>10}" + "".join(f"{name:>18}" for name in COLUMNS)
    return "\n".join([header, *(_row(name, row) for name, row in rows.items())])


def _row(name: str, row: Mapping[str, Any]) -> str:
    cells = (
        f"{row[c]:>18.4f}" if isinstance(row[c], float) else f"{row[c]!s:>18}" for c in COLUMNS
    )
    return f"{name:>10}" + "".join(cells)
