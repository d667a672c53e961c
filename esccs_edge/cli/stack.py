"""``esccs-edge stack``: downloaded products in, a pair of rasters on one grid out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .completion import complete_files
from .options import (
    baseline_option,
    bundle_option,
    dn_offset_of,
    raster_pair,
    remote_option,
    require_used,
    sar_unit_option,
)
from .progress import Progress
from .shell import CommandResult, command

if TYPE_CHECKING:
    from ..rasters.products.stacking import Stacked


@command(
    "stack",
    help="""
    Bring Sentinel-2 and Sentinel-1 products to one grid.

    The rasters hold what the model reads: digital numbers and dB, on 10 m of UTM. OPTICAL and SAR
    are .SAFE folders or their zip archives, folders of single-band files, or rasters on any grid.
    Levels, offsets and calibration come from the metadata; what these do not tell is said with
    options, and noted in the answer. `map` takes the same inputs.
    """,
    example="""
    esccs-edge stack S2B_MSIL1C_20230823.SAFE S1A_IW_GRDH_20230824.zip --out pair
    esccs-edge stack bands/ rtc/ --baseline 05.10 --out pair
    esccs-edge stack - rtc.tif --grid area.tif --out pair
    """,
)
@click.argument("optical", shell_complete=complete_files)
@click.argument("sar", shell_complete=complete_files)
@click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the rasters, optical.tif and sar.tif.",
)
@click.option(
    "--grid",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="RASTER",
    help="Take the grid of this raster [that of OPTICAL, at the model's pixel size].",
)
@click.option("--overwrite", is_flag=True, help="Replace rasters that exist.")
@remote_option
@bundle_option
@baseline_option
@sar_unit_option
def run(
    optical: str,
    sar: str,
    folder: Path,
    grid: Path | None,
    overwrite: bool,
    remote: bool,
    bundle: str,
    baseline: str | None,
    sar_unit: str | None,
) -> CommandResult:
    from ..contracts.bundle import Bundle
    from ..rasters.products.product import Stating
    from ..rasters.products.stacking import stack_products
    from ..rasters.products.target_grid import grid_of_raster

    paths = raster_pair(optical, sar)
    require_used({"optical": paths[0], "sar": paths[1]}, baseline, sar_unit)
    with Progress("stack") as progress:
        stacked = stack_products(
            {"optical": paths[0], "sar": paths[1]},
            Bundle.open(bundle).manifest,
            folder,
            stating=Stating(dn_offset_of(baseline), sar_unit, remote),
            grid=None if grid is None else grid_of_raster(grid),
            overwrite=overwrite,
            progress=progress,
        )
    return CommandResult(_document(stacked), _text(stacked))


def _document(stacked: Stacked) -> dict[str, Any]:
    grid = stacked.grid
    return {
        "rasters": dict(stacked.paths),
        "height": grid.height,
        "width": grid.width,
        "crs": grid.crs.to_string(),
        "transform": tuple(grid.transform)[:6],
        "inputs": {
            name: {
                "product": product.name,
                "level": product.level,
                "acquired": None if product.acquired is None else product.acquired.isoformat(),
                "baseline": product.baseline,
                "valid_share": stacked.valid[name],
                "notes": list(product.notes),
            }
            for name, product in stacked.products.items()
        },
        "days_apart": stacked.days_apart,
    }


def _text(stacked: Stacked) -> str:
    grid = stacked.grid
    lines = [
        f"{grid.height} x {grid.width} pixels of {grid.transform.a:g} in {grid.crs.to_string()}"
    ]
    for name, product in stacked.products.items():
        date = "date not known" if product.acquired is None else f"{product.acquired:%Y-%m-%d}"
        lines += [
            f"{stacked.paths[name]}  {product.level or 'level not known'}, {date}, "
            f"{stacked.valid[name]:.1%} with data",
            f"  from {product.name}",
            *(f"  {note}" for note in product.notes),
        ]
    if stacked.days_apart is not None:
        lines.append(f"{stacked.days_apart:.1f} days apart")
    if len(stacked.paths) == 2:
        lines.append(f"Next: esccs-edge map {' '.join(map(str, stacked.paths.values()))} map.tif")
    return "\n".join(lines)
