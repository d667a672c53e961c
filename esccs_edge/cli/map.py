"""``esccs-edge map``: a whole scene, or an archive of them, in; maps of classes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (
    backend_option,
    baseline_option,
    bundle_option,
    dn_offset_of,
    named_paths,
    precision_option,
    raster_pair,
    sar_unit_option,
)
from .shell import CommandResult, command


@command(
    "map",
    example="""
    esccs-edge map s2.tif s1.tif map.tif --quicklook map.png
    esccs-edge map - s1.tif map.tif --stride 32 --overwrite
    esccs-edge map --input sar=s1.tif map.tif
    esccs-edge map --catalog items.json --out maps --engine ray --workers 4
    """,
)
@click.argument("files", nargs=-1, metavar="[OPTICAL SAR] OUT")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=FILE",
    help="Raster of one modality, in place of OPTICAL and SAR; once per modality.",
)
@click.option("--stride", type=click.IntRange(min=1), help="Pixels between patches [half a patch].")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option(
    "--quicklook",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Also draw the scene and the map.",
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
@precision_option
@baseline_option
@sar_unit_option
def run(
    files: tuple[str, ...],
    inputs: tuple[str, ...],
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
    precision: Any,
    baseline: str | None,
    sar_unit: str | None,
) -> CommandResult:
    """Turn a whole scene into a map of classes, whatever the bundle's task.

    OPTICAL and SAR are GeoTIFFs on one grid, '-' for an absent one; OUT becomes a COG. A bundle of
    other modalities takes --input once per modality instead (see `esccs-edge inspect`). Memory
    stays bounded whatever the size of the scene. With --catalog and --out in their place, all
    scenes of a list are classified, with one table of statistics; run it again to go on.
    """
    model: dict[str, Any] = {
        "bundle": bundle,
        "backend": backend,
        "precision": precision,
        "stride": stride,
        "dn_offset": dn_offset_of(baseline),
        "sar_unit": sar_unit,
    }
    if catalog is not None:
        _refuse("with --catalog", "files", "inputs", "overwrite", "quicklook")
        if engine != "ray":
            _refuse("without --engine ray", "workers", "gpus_per_worker")
        if folder is None:
            raise click.UsageError("--catalog needs --out DIR for its results")
        from .map_archive import map_archive

        return map_archive(
            catalog,
            folder,
            engine=engine or "local",
            workers=workers,
            gpus_per_worker=gpus_per_worker or 0.0,
            **model,
        )
    _refuse("without --catalog", "folder", "engine", "workers", "gpus_per_worker")
    paths, out = _scene_files(files, inputs)
    from .map_scene import map_scene

    return map_scene(paths, out, quicklook=quicklook, overwrite=overwrite, **model)


def _scene_files(
    files: tuple[str, ...], inputs: tuple[str, ...]
) -> tuple[dict[str, Path | None], Path]:
    """Return modality -> raster, and the map to write."""
    expected = ["OUT"] if inputs else ["OPTICAL", "SAR", "OUT"]
    if len(files) != len(expected):
        given = "with --input" if inputs else "without --input"
        raise click.UsageError(
            f"{len(files)} arguments are given, expected {' '.join(expected)} {given}"
        )
    if inputs:
        return named_paths(inputs), Path(files[0])
    optical, sar = raster_pair(files[0], files[1])
    return {"optical": optical, "sar": sar}, Path(files[2])


def _refuse(mode: str, *names: str) -> None:
    """Refuse parameters that mean nothing in this mode rather than ignore them."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.params[parameter.name] not in (None, False, ()):
            raise click.UsageError(f"{parameter.get_error_hint(context)} means nothing {mode}")
