"""``esccs-edge map``: a whole scene, or an archive of them, in; maps of classes out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import (
    backend_option,
    baseline_option,
    bundle_option,
    dn_offset_of,
    raster_pair,
    sar_unit_option,
)
from .progress import Progress
from .shell import Answer, command

if TYPE_CHECKING:
    from ..scenes.summary import SceneSummary


@command(
    "map",
    example="""
    esccs-edge map s2.tif s1.tif map.tif --quicklook map.png
    esccs-edge map - s1.tif map.tif --stride 32 --overwrite
    esccs-edge map --catalog items.json --out maps --engine ray --workers 4
    """,
)
@click.argument("optical", required=False, metavar="OPTICAL")
@click.argument("sar", required=False, metavar="SAR")
@click.argument(
    "out", required=False, metavar="OUT", type=click.Path(dir_okay=False, path_type=Path)
)
@click.option("--stride", type=click.IntRange(min=1), help="Pixels between patches [half a patch].")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option(
    "--quicklook",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Also draw the scene, the map and the gate.",
)
@click.option(
    "--catalog",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="LIST",
    help="Classify the scenes of a STAC ItemCollection (.json) or a table of paths (.parquet).",
)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="With --catalog: folder of the maps and their table; finished scenes in it are kept.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    help="With --catalog: in this process, or on a pool of Ray workers [local].",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="With --engine ray: most workers at once [as many as the cluster holds].",
)
@click.option(
    "--gpus-per-worker",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SHARE",
    help="With --engine ray: GPUs, or part of one, for each worker [none].",
)
@bundle_option
@backend_option
@baseline_option
@sar_unit_option
def run(
    optical: str | None,
    sar: str | None,
    out: Path | None,
    stride: int | None,
    overwrite: bool,
    quicklook: Path | None,
    catalog: Path | None,
    folder: Path | None,
    engine: str | None,
    workers: int | None,
    gpus_per_worker: float | None,
    bundle: str,
    backend: str,
    baseline: str | None,
    sar_unit: str,
) -> Answer:
    """Classify a whole scene into a map of classes.

    OPTICAL and SAR are GeoTIFFs on one grid, '-' for an absent one; OUT becomes a COG. Memory
    stays bounded whatever the size of the scene. With --catalog and --out in their place, all
    scenes of a list are classified, with one table of statistics; run it again to go on.
    """
    if catalog is not None:
        _refuse("with --catalog", "optical", "sar", "out", "overwrite", "quicklook")
        if engine != "ray":
            _refuse("without --engine ray", "workers", "gpus_per_worker")
        if folder is None:
            raise click.UsageError("--catalog needs --out DIR for its results")
        from .map_archive import archive_answer

        return archive_answer(
            catalog,
            folder,
            engine=engine or "local",
            workers=workers,
            gpus_per_worker=gpus_per_worker or 0.0,
            bundle=bundle,
            backend=backend,
            stride=stride,
            dn_offset=dn_offset_of(baseline),
            sar_unit=sar_unit,
        )
    _refuse("without --catalog", "folder", "engine", "workers", "gpus_per_worker")
    if optical is None or sar is None or out is None:
        raise _missing_argument()
    optical_path, sar_path = raster_pair(optical, sar)
    dn_offset = dn_offset_of(baseline)
    draw = None if quicklook is None else _drawing(quicklook)

    from ..classifier import Classifier
    from ..scenes.mapping import classify_scene

    with (
        Classifier(bundle, backend=backend, dn_offset=dn_offset, sar_unit=sar_unit) as classifier,
        Progress("map") as progress,
    ):
        summary = classify_scene(
            classifier,
            optical_path,
            sar_path,
            out,
            stride=stride,
            overwrite=overwrite,
            progress=progress,
        )
        if draw is not None:
            draw(summary.class_map, optical_path, sar_path, classifier.manifest)
    document = {**summary.to_dict(), "quicklook": quicklook}
    return Answer(document, _text(summary, quicklook))


def _refuse(mode: str, *names: str) -> None:
    """Refuse parameters that mean nothing in this mode rather than ignore them."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.params[parameter.name] not in (None, False):
            raise click.UsageError(f"{parameter.get_error_hint(context)} means nothing {mode}")


def _missing_argument() -> click.MissingParameter:
    """Return click's own error for the first argument that is not there."""
    context = click.get_current_context()
    missing = next(
        parameter
        for parameter in context.command.params
        if isinstance(parameter, click.Argument) and context.params[str(parameter.name)] is None
    )
    return click.MissingParameter(ctx=context, param=missing)


def _drawing(quicklook: Path) -> Callable[..., object]:
    """Return what draws the picture; refuses before the scene is classified, not after."""
    from ..view.quicklook import draw_quicklook

    if quicklook.suffix.lower() != ".png":
        raise click.BadParameter(f"{quicklook} does not end in .png", param_hint="--quicklook")
    return partial(draw_quicklook, quicklook)


def _text(summary: SceneSummary, quicklook: Path | None) -> str:
    shares = sorted(summary.class_shares.items(), key=lambda item: -item[1])
    lines = [
        f"{summary.class_map}  {summary.height} x {summary.width} pixels, "
        f"{summary.patches} patches, {summary.seconds:.1f} s",
        f"{summary.scores}",
        *([str(quicklook)] if quicklook else []),
        *(f"  {share:6.1%}  {name}" for name, share in shares if share > 0),
    ]
    if summary.mean_confidence is not None and summary.mean_gate_optical is not None:
        lines.append(
            f"  mean confidence {summary.mean_confidence:.2f}, "
            f"mean gate: optical {summary.mean_gate_optical:.2f}"
        )
    if summary.nodata_share:
        lines.append(f"  {summary.nodata_share:.1%} of the pixels have no answer")
    if summary.refused_patches:
        lines.append(f"  {summary.refused_patches} patches were refused for their values")
    return "\n".join(lines)
