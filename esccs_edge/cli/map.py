"""``esccs-edge map``: a whole scene in, a map of classes out."""

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
    from ..scene_summary import SceneSummary


@command(
    "map",
    example="""
    esccs-edge map s2.tif s1.tif map.tif --quicklook map.png
    esccs-edge map - s1.tif map.tif --stride 32 --overwrite
    """,
)
@click.argument("optical")
@click.argument("sar")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--stride", type=click.IntRange(min=1), help="Pixels between patches [patch size].")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option(
    "--quicklook",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Also draw the scene, the map and the gate.",
)
@bundle_option
@backend_option
@baseline_option
@sar_unit_option
def run(
    optical: str,
    sar: str,
    out: Path,
    stride: int | None,
    overwrite: bool,
    quicklook: Path | None,
    bundle: str,
    backend: str,
    baseline: str | None,
    sar_unit: str,
) -> Answer:
    """Classify a whole scene into a map of classes.

    OPTICAL and SAR are GeoTIFFs on one grid, '-' for an absent one; OUT becomes a COG. Memory
    stays bounded whatever the size of the scene.
    """
    optical_path, sar_path = raster_pair(optical, sar)
    dn_offset = dn_offset_of(baseline)
    draw = None if quicklook is None else _drawing(quicklook)

    from ..classifier import Classifier
    from ..mapping import classify_scene

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


def _drawing(quicklook: Path) -> Callable[..., object]:
    """Return what draws the picture; refuses before the scene is classified, not after."""
    from ..quicklook import draw_quicklook

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
