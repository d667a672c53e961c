"""``esccs-edge map``: one scene in, a map of classes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .progress import Progress
from .shell import CommandResult

if TYPE_CHECKING:
    from ..contracts.bundle_files import Precision
    from ..scenes.summary import SceneSummary


def map_scene(
    paths: Mapping[str, Path | None],
    out: Path,
    *,
    quicklook: Path | None,
    stride: int | None,
    overwrite: bool,
    bundle: str,
    backend: str,
    precision: Precision,
    dn_offset: float | None,
    sar_unit: str | None,
) -> CommandResult:
    """Map one scene with a bundle of any task, and draw it if asked."""
    if quicklook is not None:
        from ..view.quicklook import draw_quicklook  # a missing package is reported before the work

        if quicklook.suffix.lower() != ".png":
            raise click.BadParameter(f"{quicklook} does not end in .png", param_hint="--quicklook")
    from ..any_task import open_model
    from ..contracts.bundle import Bundle
    from ..contracts.stored_units import as_stored
    from ..scenes import mapping

    opened = Bundle.open(bundle)
    manifest = as_stored(opened.manifest, dn_offset=dn_offset, sar_unit=sar_unit)
    with (
        open_model(opened, backend, precision=precision, manifest=manifest) as model,
        Progress("map") as progress,
    ):
        summary = mapping.map_scene(
            model, paths, out, stride=stride, overwrite=overwrite, progress=progress
        )
    if quicklook is not None:
        draw_quicklook(quicklook, summary.class_map, paths, model.manifest)
    document = {**summary.to_dict(), "quicklook": quicklook}
    return CommandResult(document, _text(summary, quicklook))


def _text(summary: SceneSummary, quicklook: Path | None) -> str:
    shares = sorted(summary.class_shares.items(), key=lambda item: -item[1])
    lines = [
        f"{summary.class_map}  {summary.height} x {summary.width} pixels, "
        f"{summary.patches} patches, {summary.seconds:.1f} s",
        f"{summary.scores}",
        *([str(quicklook)] if quicklook else []),
        *(f"  {share:6.1%}  {name}" for name, share in shares if share > 0),
    ]
    if summary.mean_confidence is not None:
        means = {"confidence": summary.mean_confidence, **summary.mean_layers}
        lines.append("  " + ", ".join(f"mean {_title(name)} {x:.2f}" for name, x in means.items()))
    if summary.nodata_share:
        lines.append(f"  {summary.nodata_share:.1%} of the pixels have no answer")
    if summary.refused_patches:
        lines.append(f"  {summary.refused_patches} patches were refused for their values")
    return "\n".join(lines)


def _title(layer: str) -> str:
    """Return a score layer's name as it reads in a text: ``gate: optical``."""
    group, _, part = layer.partition("_")
    return f"{group}: {part}" if part else group
