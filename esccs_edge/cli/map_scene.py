"""``esccs-edge map``: one scene in, a map of classes out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..contracts.values import Flag
from .progress import Progress
from .shell import CommandResult

if TYPE_CHECKING:
    from ..scenes.summary import SceneSummary
    from .model_options import ModelOptions


def map_scene(
    model: ModelOptions,
    paths: Mapping[str, Path | None],
    out: Path,
    *,
    quicklook: Path | None,
    stride: int | None,
    overwrite: bool,
    resume: bool,
    remote: bool,
) -> CommandResult:
    """Map one scene with a bundle of any task, and draw it if asked."""
    if quicklook is not None:
        from ..view.quicklook import draw_quicklook  # a missing package is reported before the work

        require_png(quicklook)
    from ..archive.map_item import require_free_item, write_map_item
    from ..rasters.products.prepared import any_product, as_rasters
    from ..rasters.products.product import Stating
    from ..scenes import mapping
    from ..scenes.map_writer import require_free_target, require_no_input

    opened = model.open_bundle()
    manifest = opened.manifest
    if not any_product(paths):  # else what is said here is of the inputs, not of what they become
        manifest = model.as_stored(manifest)
    if resume:
        mapping.require_lasting(paths)
    given = [path for path in paths.values() if path is not None]
    require_free_target(out, given, overwrite=overwrite)
    require_free_item(out, overwrite=overwrite)
    if quicklook is not None:
        require_no_input(quicklook, given)
    with ExitStack() as stack:
        with Progress("stack") as progress:
            stating = Stating(model.dn_offset, model.sar_unit, remote)
            prepared = stack.enter_context(
                as_rasters(paths, manifest, out, stating=stating, progress=progress)
            )
        runtime = stack.enter_context(model.open_model(opened, manifest))
        with Progress("map") as progress:
            summary = mapping.map_scene(
                runtime,
                prepared.paths,
                out,
                stride=stride,
                overwrite=overwrite,
                resume=model.how_it_runs if resume else None,
                progress=progress,
            )
        item = write_map_item(summary, manifest, prepared.paths, paths, prepared.notes)
        if quicklook is not None:
            draw_quicklook(quicklook, summary.class_map, prepared.paths, runtime.manifest)
    document = {**summary.to_dict(), "item": item, "quicklook": quicklook, "notes": prepared.notes}
    text = [scene_text(summary, quicklook), *(f"  {note}" for note in prepared.notes)]
    absent = summary.flagged_patches.get(Flag.MODALITY_MISSING.value)
    if absent and len(given) == len(manifest.modalities):
        text.append(f"  {absent} of {summary.patches} patches lack the data of one of the images")
    return CommandResult(document, "\n".join(text))


#: Flags that say that a map may be wrong though every patch was answered.
DOUBTS = {
    Flag.RADIOMETRY_SUSPECT.value: "scale, offset or order of the bands looks wrong; look at "
    "--baseline, --sar-unit and the names of the bands",
    Flag.UNFAMILIAR.value: "unlike anything that the model was trained on; do not trust the answer",
}


def require_png(quicklook: Path) -> None:
    """Refuse a picture of another kind before the work."""
    if quicklook.suffix.lower() != ".png":
        raise click.BadParameter(f"{quicklook} does not end in .png", param_hint="--quicklook")


def scene_text(summary: SceneSummary, quicklook: Path | None) -> str:
    """Say what a map shows."""
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
    for flag, meaning in DOUBTS.items():
        if count := summary.flagged_patches.get(flag):
            lines.append(f"  {flag} in {count} of {summary.patches} patches: {meaning}")
    if summary.refused_patches:
        lines.append(f"  {summary.refused_patches} patches were refused for their values")
    return "\n".join(lines)


def _title(layer: str) -> str:
    """Return a score layer's name as it reads in a text, such as ``gate: optical``."""
    return layer.replace("gate_", "gate: ").replace("_", " ")
