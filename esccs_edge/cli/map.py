"""``esccs-edge map``: a whole scene, or an archive of them, in; maps of classes out."""

from __future__ import annotations

from pathlib import Path

import click

from .completion import complete_files
from .model_options import ModelOptions, model_options
from .options import named_paths, raster_pair, remote_option, require_used
from .shell import CommandResult, command


@command(
    "map",
    help="""
    Turn a whole scene, or a season, into a map of classes.

    OPTICAL and SAR are GeoTIFFs on one grid, or products as `esccs-edge stack` takes them; '-'
    stands for an absent one. OUT, such as map.tif, becomes a Cloud Optimized GeoTIFF of class
    numbers; map.scores.tif (confidence, share of optical) and a STAC item stand beside it. A bundle
    of other modalities takes --input once per modality instead (see `esccs-edge inspect`). Memory
    stays bounded whatever the scene's size. A bundle of time series takes SERIES: a folder of
    rasters with a date in each name, or an index.csv with the columns file,date,sensor. With
    --catalog and --out in their place, all scenes of a list are classified, with one table of
    statistics; run it again to go on.
    """,
    example="""
    esccs-edge map s2.tif s1.tif map.tif --quicklook map.png
    esccs-edge map S2B_MSIL1C_20230823.SAFE S1A_IW_GRDH_20230824.zip map.tif
    esccs-edge map - s1.tif map.tif --stride 32 --overwrite
    esccs-edge map --input sar=s1.tif map.tif
    esccs-edge map season/ map.tif --bundle crops --quicklook map.png
    esccs-edge map --catalog items.json --out maps --engine ray --workers 4
    esccs-edge map --catalog "https://stac.example/search?collections=pairs" --remote --out maps
    """,
)
@click.argument(
    "files", nargs=-1, metavar="[OPTICAL SAR | SERIES] OUT", shell_complete=complete_files
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=FILE",
    help="Raster of one modality, in place of OPTICAL and SAR; once per modality.",
)
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    help="Pixels from one patch to the next [half a patch]; fewer are slower and smoother.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option(
    "--resume",
    is_flag=True,
    help="Keep finished rows beside OUT while it is made, and go on from those of a killed run.",
)
@click.option(
    "--quicklook",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Also draw the scene and the map.",
)
@click.option(
    "--catalog",
    type=click.Path(dir_okay=False),
    metavar="LIST",
    help="Classify the scenes of a STAC ItemCollection (.json), a table of paths (.parquet) or, "
    "with --remote, a search of a STAC API (https:).",
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
@remote_option
@model_options
def run(
    files: tuple[str, ...],
    inputs: tuple[str, ...],
    stride: int | None,
    overwrite: bool,
    resume: bool,
    quicklook: Path | None,
    catalog: str | None,
    folder: Path | None,
    engine: str | None,
    workers: int | None,
    gpus_per_worker: float | None,
    remote: bool,
    model: ModelOptions,
) -> CommandResult:
    if catalog is not None:
        _refuse("with --catalog", "files", "inputs", "overwrite", "resume", "quicklook")
        if "://" not in catalog:
            _refuse("with a list in a file", "remote")
        if engine != "ray":
            _refuse("without --engine ray", "workers", "gpus_per_worker")
        if folder is None:
            raise click.UsageError("--catalog needs --out DIR for its results")
        from .map_archive import map_archive

        return map_archive(
            model,
            catalog,
            folder,
            stride=stride,
            remote=remote,
            engine=engine or "local",
            workers=workers,
            gpus_per_worker=gpus_per_worker or 0.0,
        )
    _refuse("without --catalog", "folder", "engine", "workers", "gpus_per_worker")
    if len(files) == 2 and not inputs and _is_series(Path(files[0])):
        _refuse("with a series", "remote")
        from .map_series import map_series

        series, out = map(Path, files)
        return map_series(
            model,
            series,
            out,
            quicklook=quicklook,
            stride=stride,
            overwrite=overwrite,
            resume=resume,
        )
    paths, out = _scene_files(files, inputs)
    require_used(paths, model.baseline, model.sar_unit)
    from .map_scene import map_scene

    return map_scene(
        model,
        paths,
        out,
        quicklook=quicklook,
        stride=stride,
        overwrite=overwrite,
        resume=resume,
        remote=remote,
    )


def _scene_files(
    files: tuple[str, ...], inputs: tuple[str, ...]
) -> tuple[dict[str, Path | None], Path]:
    """Return modality -> raster, and the map to write."""
    if len(files) != (1 if inputs else 3):
        expected = "OPTICAL SAR OUT, or a folder or .csv of a series and OUT"
        expected = "OUT with --input" if inputs else expected
        raise click.UsageError(f"{len(files)} arguments are given, expected {expected}")
    if inputs:
        return named_paths(inputs), Path(files[0])
    optical, sar = raster_pair(files[0], files[1])
    return {"optical": optical, "sar": sar}, Path(files[2])


def _is_series(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ".csv"


def _refuse(mode: str, *names: str) -> None:
    """Refuse parameters that mean nothing in this mode rather than ignore them."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.params[parameter.name] not in (None, False, ()):
            raise click.UsageError(f"{parameter.get_error_hint(context)} means nothing {mode}")
