"""``esccs-edge demo``: a scene that needs no data becomes a map: a real one, or a simulated one."""

from __future__ import annotations

from pathlib import Path

import click

from .options import backend_option, bundle_option, seed_option
from .shell import CommandResult, command

DEFAULT_SIZE = 1024
#: Task -> the bundle in the package that does it.
BUNDLES = {
    "scene-classification": "default",
    "semantic-segmentation": "land-cover",
    "series-classification": "crop-series",
}


@command(
    "demo",
    help="""
    Map the scene, or classify the series, in the package.

    The scene is real: Sentinel-2 under real clouds, Sentinel-1 of the same place, and the place
    under a clear sky to compare with. With --simulated, ground, clouds and SAR are simulated, and
    the answer is compared with the simulated truth. Writes optical.tif, sar.tif, map.tif,
    map.scores.tif, quicklook.png and summary.json; of the real scene also clear.tif and its map.

    Models of pixel series classify real seasons of French fields instead, with dates hidden and
    by SAR alone too, and write seasons.png and summary.json.
    """,
    example="""
    esccs-edge demo --out demo-out
    esccs-edge demo --task semantic-segmentation
    esccs-edge demo --task series-classification
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
@click.option(
    "--task",
    type=click.Choice(list(BUNDLES)),
    help="Take the bundle in the package that does this, instead of --bundle.",
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
    task: str | None,
    simulated: bool,
    size: int | None,
    seed: int,
    bundle: str,
    backend: str,
) -> CommandResult:
    if task is not None:
        if context.get_parameter_source("bundle") is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError("--task and --bundle each name a bundle; leave one out")
        bundle = BUNDLES[task]
    if simulated:
        if task == "series-classification":
            raise click.UsageError("--simulated is of scenes; there is no simulated series to show")
        from .demo_simulated import simulated_demo

        return simulated_demo(out, size or DEFAULT_SIZE, seed, bundle, backend)
    source = context.get_parameter_source("seed")
    if size is not None or source is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--size and --seed are of the simulated scene; add --simulated")
    from .demo_real import real_demo

    return real_demo(out, bundle, backend)
