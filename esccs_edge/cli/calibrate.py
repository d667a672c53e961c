"""``esccs-edge calibrate``: measure ranges, write INT8 scales into the ONNX graph."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import bundle_argument, open_bundle, seed_option
from .progress import Progress
from .shell import CommandResult, command


@command(
    "calibrate",
    help="""
    Quantize BUNDLE to INT8 and report what it costs.

    INDEX lists labeled pairs like those the model will see, such as the heldout/index.csv of a
    training run. One part measures ranges, the other judges. Adds student.int8.onnx,
    calibration.json and the list of pairs, and makes the INT8 file the bundle's model.
    student.onnx stays as it is, also with --finetune.
    """,
    example="""
    esccs-edge calibrate runs/first/bundle runs/first/heldout/index.csv
    esccs-edge calibrate runs/first/bundle runs/first/heldout/index.csv --finetune
    """,
)
@bundle_argument
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
    metavar="POINTS",
    help="Refuse if INT8 costs more balanced accuracy, or mIoU of maps, than this [1; of maps 0.5; "
    "with --finetune 0.3].",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(min=0, max=100),
    metavar="PERCENT",
    help="Refuse if fewer pairs keep the float model's label [0; with --finetune 99].",
)
@click.option(
    "--finetune",
    is_flag=True,
    help="Where calibration alone costs more than that, train the INT8 graph to answer like the "
    "float one; needs torch.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Passes of --finetune over the pairs that measured ranges.",
)
@seed_option
def run(
    bundle: str,
    index: Path,
    methods: tuple[str, ...],
    max_loss: float | None,
    min_agreement: float | None,
    finetune: bool,
    epochs: int,
    seed: int,
) -> CommandResult:
    from esccs_edge.calibration.budget import BUDGETS, FINETUNE_BUDGET, Budget
    from esccs_edge.calibration.observers import AMAX_METHODS
    from esccs_edge.calibration.quantize import quantize_student
    from esccs_edge.calibration.report import report_as_table

    from ..contracts.bundle_files import CALIBRATION_REPORT
    from ..contracts.tasks import task_named

    opened = open_bundle(bundle)
    usual = FINETUNE_BUDGET if finetune else BUDGETS[task_named(opened.manifest.task).measure]
    budget = Budget(
        usual.max_loss if max_loss is None else max_loss,
        usual.min_agreement if min_agreement is None else min_agreement / 100,
    )
    with Progress("calibrate") as progress:
        quantized = quantize_student(
            opened,
            index,
            seed=seed,
            methods=methods or tuple(AMAX_METHODS),
            budget=budget,
            finetune_epochs=epochs if finetune else 0,
            progress=progress,
        )
    report = json.loads(quantized.read(CALIBRATION_REPORT))
    return CommandResult({"folder": quantized.folder, **report}, report_as_table(report).rstrip())
