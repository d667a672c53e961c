"""``esccs-edge demo``: a scene that needs no data becomes a map: a real one, or a simulated one."""

from __future__ import annotations

from pathlib import Path

import click

from .options import backend_option, bundle_option, seed_option
from .shell import CommandResult, command

DEFAULT_SIZE = 1024


@command(
    "demo",
    example="""
    esccs-edge demo --out demo-out
    esccs-edge demo --simulated --size 2048 --seed 3
    """,
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-out"),
    show_default=True,
    help="Folder to write to; files of an earlier demo are replaced.",
)
@click.option("--simulated", is_flag=True, help="Simulate the scene instead, with its truth.")
@click.option(
    "--size",
    type=click.IntRange(min=128, max=4096),
    help=f"Rows and columns of the simulated scene [{DEFAULT_SIZE}].",
)
@seed_option
@bundle_option
@backend_option
@click.pass_context
def run(
    context: click.Context,
    out: Path,
    simulated: bool,
    size: int | None,
    seed: int,
    bundle: str,
    backend: str,
) -> CommandResult:
    """Classify a scene that ships with the package and draw it.

    The scene is real: Sentinel-2 under real clouds, Sentinel-1 of the same place, and the place
    under a clear sky to compare with. With --simulated, ground, clouds and SAR are simulated, and
    the answer is compared with the simulated truth. Writes optical.tif, sar.tif, map.tif,
    map.scores.tif, quicklook.png and summary.json; of the real scene also clear.tif and its map.
    """
    if simulated:
        from .demo_simulated import simulated_demo

        return simulated_demo(out, size or DEFAULT_SIZE, seed, bundle, backend)
    source = context.get_parameter_source("seed")
    if size is not None or source is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--size and --seed are of the simulated scene; add --simulated")
    from .demo_real import real_demo

    return real_demo(out, bundle, backend)
