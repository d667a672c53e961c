"""``esccs-edge calibrate``: measure ranges, write INT8 scales into the ONNX graph."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import seed_option
from .progress import Progress
from .shell import Answer, command


@command(
    "calibrate",
    example="esccs-edge calibrate runs/first/bundle runs/first/heldout/index.csv",
)
@click.argument("bundle")
@click.argument("index", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--method",
    "methods",
    type=click.Choice(["max", "entropy", "percentile"]),
    multiple=True,
    help="How a range becomes a scale; may be repeated, the best is kept [all].",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="Refuse if INT8 costs more balanced accuracy than this.",
)
@seed_option
def run(bundle: str, index: Path, methods: tuple[str, ...], max_loss: float, seed: int) -> Answer:
    """Quantize BUNDLE to INT8 and report what it costs.

    INDEX lists labelled pairs like those the model will see, such as the heldout/index.csv of a
    training run. One part measures ranges, the other judges. Adds student.int8.onnx,
    calibration.json and the list of pairs, and makes the INT8 file the bundle's model.
    """
    from ..bundle import Bundle
    from ..calibration.observers import AMAX_METHODS
    from ..calibration.quantize import REPORT_JSON, quantize_student
    from ..calibration.report import report_as_table

    with Progress("calibrate"):
        quantized = quantize_student(
            Bundle.open(bundle),
            index,
            seed=seed,
            methods=methods or tuple(AMAX_METHODS),
            max_accuracy_loss=max_loss,
        )
    report = json.loads(quantized.read(REPORT_JSON))
    return Answer({"folder": quantized.folder, **report}, report_as_table(report).rstrip())
