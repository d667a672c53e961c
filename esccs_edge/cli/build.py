"""``esccs-edge build``: a TensorRT engine for this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .progress import Progress
from .shell import Answer, command

if TYPE_CHECKING:
    from ..export.to_engine import EngineReport


@command(
    "build",
    example="""
    esccs-edge build default --flavor rtx --precision int8 --out engines
    esccs-edge build runs/first/bundle --flavor tensorrt --precision fp16
    """,
)
@click.argument("bundle")
@click.option(
    "--flavor",
    type=click.Choice(["rtx", "tensorrt"]),
    default="rtx",
    show_default=True,
    help="Library that compiles: 'rtx' needs no GPU, 'tensorrt' builds on its GPU.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="int8",
    show_default=True,
    help="Arithmetic of the engine.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to [the bundle's].",
)
@click.option(
    "--target",
    metavar="SM",
    help="'rtx' only: 'portable' or a compute capability such as 8.6 [this GPU].",
)
def run(bundle: str, flavor: Any, precision: Any, out: Path | None, target: str | None) -> Answer:
    """Compile BUNDLE into a TensorRT engine.

    Writes the engine file and a JSON record beside it. The runtime builds and caches its own
    engines; this command is for looking at one, or for making sure that a bundle compiles before
    it is sent to a device.
    """
    from ..bundle import Bundle
    from ..export.to_engine import build_engine

    with Progress("build") as progress:
        report = build_engine(
            Bundle.open(bundle),
            flavor=flavor,
            precision=precision,
            out=out,
            target=target,
            progress=lambda phase, done, steps: progress(done, steps),
        )
    document = {**report.to_dict(), "path": report.path, "record_path": report.record_path}
    return Answer(document, _text(report))


def _text(report: EngineReport) -> str:
    return (
        f"{report.path}\n"
        f"  {report.bytes:,} bytes, {report.precision}, {report.flavor} {report.version}, "
        f"target {report.target}, built in {report.seconds:.2f} s\n"
        f"  batch {report.profile.min} / {report.profile.opt} / {report.profile.max}"
        f"  (min / opt / max)\n"
        f"  record {report.record_path}"
    )
