"""``esccs-edge bench``: how fast a bundle answers here, alone or beside other runtimes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .bench_load import scaling_answer
from .options import backend_option, bundle_option
from .progress import Progress
from .shell import CommandResult, command, json_text

#: What ``--out`` writes into its folder.
JSON_NAME, PAGE_NAME, FIGURE_NAME = "bench.json", "bench.md", "bench.png"
#: Options that ``--scaling`` listens to.
OF_SCALING = {"bundle", "seconds", "out", "scaling", "soak"}


@command(
    "bench",
    example="""
    esccs-edge bench --batch 1 --batch 32 --json
    esccs-edge bench --peers --threads 1 --threads 2 --out bench
    esccs-edge bench --scaling --seconds 2 --out scaling
    """,
)
@bundle_option
@backend_option
@click.option(
    "--peers/--no-peers",
    default=False,
    show_default=True,
    help="Time other runtimes too, in turns: OpenVINO, ONNX Runtime, torch, OpenCV.",
)
@click.option(
    "--patch",
    "patches",
    type=click.IntRange(min=8),
    multiple=True,
    help="Patch height and width in pixels; may be repeated [the bundle's].",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    help="Pairs per call; may be repeated [1, 8, 32].",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    multiple=True,
    help="Threads to use; may be repeated [all cores].",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Time spent on each row.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Turns that this time is spent in.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder for {JSON_NAME}, {PAGE_NAME} and {FIGURE_NAME} (with --scaling: scaling.*).",
)
@click.option(
    "--figure",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Draw the rows.",
)
@click.option(
    "--scaling",
    is_flag=True,
    help="Instead: threads, callers, batch sizes, overload and memory, on the CPU.",
)
@click.option(
    "--soak",
    type=click.IntRange(min=0),
    metavar="CALLS",
    help="With --scaling: calls over which the memory is watched; 0 for none [100000].",
)
@click.pass_context
def run(
    context: click.Context,
    bundle: str,
    backend: str,
    peers: bool,
    patches: tuple[int, ...],
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    seconds: float,
    rounds: int,
    out: Path | None,
    figure: Path | None,
    scaling: bool,
    soak: int | None,
) -> CommandResult:
    """Measure latency, throughput, parts, cold start and memory.

    Rows go from raw pixels to labels. Pixels are simulated; only time is measured. With --peers
    the same student runs in other runtimes too, each in a process of its own; all must give the
    same labels, and each round times one after the other. One that cannot run is listed with the
    reason. With --scaling answers per second are measured over threads, callers and batch sizes,
    what happens under ten times the load that can be answered, and memory over a long run.
    """
    if scaling:
        _refuse_given(context, set(context.params) - OF_SCALING, "does not go with --scaling")
        return scaling_answer(bundle, seconds=seconds, soak_calls=soak, out=out)
    _refuse_given(context, {"soak"}, "goes with --scaling only")
    from ..bench.compare import BATCHES, Plan, bench
    from ..bench.peers import OURS, PEERS
    from ..contracts.bundle import Bundle

    pictures = [path for path in (out and out / FIGURE_NAME, figure) if path]
    if pictures:
        from ..bench.figure import draw_figure  # refuse before the timing, not after

    opened = Bundle.open(bundle)
    plan = Plan(
        peers=tuple(PEERS) if peers else (OURS,),
        patches=patches or (None,),
        batches=batches or BATCHES,
        threads=threads or (None,),
        seconds=seconds,
        rounds=rounds,
        backend=backend,
    )
    with Progress("bench") as progress:
        found = bench(opened, plan, progress=progress)
    document: dict[str, Any] = {
        **asdict(found),
        "cold_start_ms": found.fresh[0]["cold_start_ms"],
        "backend": found.about[OURS],
        "plan": asdict(plan),
    }
    for picture in pictures:
        draw_figure(document["rows"], picture)
    return CommandResult(document, _told(document, out))


def _refuse_given(context: click.Context, names: set[str], reason: str) -> None:
    """Refuse options that would be ignored, except where they hold their default."""
    for name in sorted(names):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(p for p in context.command.params if p.name == name)
            raise click.UsageError(f"{option.opts[0]} {reason}")


def _told(document: dict[str, Any], out: Path | None) -> str:
    from ..bench.report import markdown, table
    from ..system.atomic import write_atomic

    if out is not None:
        write_atomic(out / PAGE_NAME, markdown(document))
        write_atomic(out / JSON_NAME, json_text(document) + "\n")
    return table(document)
