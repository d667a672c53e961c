"""``esccs-edge build``: a TensorRT engine for this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ..contracts.bundle_files import GraphPrecision
from .options import bundle_argument, open_bundle
from .progress import Progress
from .shell import CommandResult, command

if TYPE_CHECKING:
    from esccs_edge.export.to_engine import EngineReport


@command(
    "build",
    help="""
    Compile BUNDLE into a TensorRT engine.

    Writes the engine file and a JSON record beside it. The runtime builds and caches its own
    engines; this command is for looking at one, or for making sure that a bundle compiles before
    it is sent to a device.

    With --choose, on the target: fp32, fp16 and int8 are measured, and a copy of BUNDLE that runs
    the fastest one within the budget is written to --out, with the report in choice.json.
    """,
    example="""
    esccs-edge build default --flavor rtx --precision int8 --out engines
    esccs-edge build runs/first/bundle --flavor tensorrt --precision fp16
    esccs-edge build runs/first/bundle --choose --out for-this-machine
    """,
)
@bundle_argument
@click.option(
    "--flavor",
    type=click.Choice(["rtx", "tensorrt"]),
    help="Library that compiles: 'rtx' needs no GPU, 'tensorrt' builds on its GPU "
    "[rtx; with --choose the one that the runtime takes on this machine].",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(GraphPrecision)),
    default="int8",
    show_default=True,
    help="Arithmetic of the engine.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to [the bundle's]; with --choose that of the new bundle.",
)
@click.option(
    "--target",
    metavar="SM",
    help="'rtx' only: 'portable' or a compute capability such as 8.6 [this GPU].",
)
@click.option("--choose", is_flag=True, help="Measure all precisions on this GPU, take the best.")
@click.option(
    "--prefer",
    type=click.Choice(["latency", "throughput"]),
    default="latency",
    show_default=True,
    help="With --choose: what the best one is fastest in.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="With --choose: largest loss of accuracy (or of agreement) against fp32.",
)
@click.option(
    "--data",
    type=click.Path(dir_okay=False),
    metavar="INDEX.csv",
    help="With --choose: labeled pairs; accuracy is that of the test split.",
)
def run(
    bundle: str,
    flavor: Any,
    precision: Any,
    out: Path | None,
    target: str | None,
    choose: bool,
    prefer: Any,
    budget: float,
    data: str | None,
) -> CommandResult:
    if choose:
        return _choose(bundle, flavor, out, prefer, budget, data)
    from esccs_edge.export.to_engine import build_engine

    with Progress("build") as progress:
        report = build_engine(
            open_bundle(bundle),
            flavor=flavor or "rtx",
            precision=precision,
            out=out,
            target=target,
            progress=lambda phase, done, steps: progress(done, steps),
        )
    document = {**report.to_dict(), "path": report.path, "record_path": report.record_path}
    return CommandResult(document, _text(report))


def _choose(
    bundle: str, flavor: Any, out: Path | None, prefer: Any, budget: float, data: str | None
) -> CommandResult:
    if out is None:
        raise click.UsageError("--choose writes a bundle; name its folder by --out")
    from esccs_edge.export.choose import choose_precision

    with Progress("measure") as progress:
        made, choice = choose_precision(
            open_bundle(bundle),
            out,
            flavor=flavor,
            prefer=prefer,
            budget=budget,
            index=data,
            progress=progress,
        )
    document = {"bundle": made.folder, **choice.to_dict()}
    return CommandResult(document, f"{made.folder}\n{choice.to_table()}")


def _text(report: EngineReport) -> str:
    return (
        f"{report.path}\n"
        f"  {report.bytes:,} bytes, {report.precision}, {report.flavor} {report.version}, "
        f"target {report.target}, built in {report.seconds:.2f} s\n"
        f"  batch {report.profile.min} / {report.profile.opt} / {report.profile.max}"
        f"  (min / opt / max)\n"
        f"  record {report.record_path}"
    )
