"""``esccs-edge classify``: one patch, one answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .completion import complete_files
from .model_options import ModelOptions, model_options
from .options import raster_pair, require_used
from .shell import CommandResult, command

if TYPE_CHECKING:
    from ..contracts.manifest import Manifest
    from ..contracts.values import Prediction

#: Classes in the text; JSON holds all.
SHOWN_CLASSES = 3


@command(
    "classify",
    help="""
    Classify one pair of patches, OPTICAL and SAR.

    '-' stands for an absent modality. The rasters must have exactly the bundle's patch size
    (see `esccs-edge inspect`); use `esccs-edge map` for larger ones.
    """,
    example="""
    esccs-edge classify s2.tif s1.tif
    esccs-edge classify s2.tif - --baseline 05.10 --json
    """,
)
@click.argument("optical", shell_complete=complete_files)
@click.argument("sar", shell_complete=complete_files)
@model_options
def run(optical: str, sar: str, model: ModelOptions) -> CommandResult:
    optical_path, sar_path = raster_pair(optical, sar)
    require_used({"optical": optical_path, "sar": sar_path}, model.baseline, model.sar_unit)

    from ..classifier import Classifier
    from ..contracts.tasks import require_task

    opened = model.open_bundle()
    require_task(opened.manifest.task, Classifier.task)
    pixels = _read(optical_path, sar_path, opened.manifest)
    with Classifier(
        opened,
        backend=model.backend,
        max_batch=1,
        lanes=1,
        precision=model.precision,
        device=model.device,
        flavor=model.flavor,
        dn_offset=model.dn_offset,
        sar_unit=model.sar_unit,
    ) as classifier:
        prediction = classifier.classify(*pixels)
    return CommandResult(prediction.to_dict(), _text(prediction))


def _read(optical_path: Path | None, sar_path: Path | None, manifest: Manifest) -> tuple[Any, Any]:
    """Read one pair; rasters of another size are sent to the command that takes them."""
    from ..errors import InputError
    from ..rasters.reader import read_sample

    paths = {"optical": optical_path, "sar": sar_path}
    pixels = read_sample(paths, manifest.modalities, manifest.sample.pixel_size_m)
    found = next(image for image in pixels.values() if image is not None).shape[1:]
    grid = manifest.sample
    wanted = grid.height, grid.width
    if found != wanted:
        raise InputError(
            f"{optical_path or sar_path} has {found[0]} x {found[1]} pixels, "
            f"expected {wanted[0]} x {wanted[1]}",
            hint="Use `esccs-edge map` for larger rasters"
            if found[0] >= wanted[0] and found[1] >= wanted[1]
            else f"Cut a patch of {wanted[0]} x {wanted[1]} pixels of {grid.pixel_size_m:g} m",
        )
    return pixels["optical"], pixels["sar"]


def _text(prediction: Prediction) -> str:
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:SHOWN_CLASSES]
    lines = [
        f"{prediction.label}  {prediction.confidence:.1%}",
        "  " + ", ".join(f"{name} {share:.1%}" for name, share in ranked),
        f"  gate: optical {prediction.gate.optical:.2f}, SAR {prediction.gate.sar:.2f}",
    ]
    if prediction.flags:
        lines.append("  flags: " + ", ".join(sorted(flag.value for flag in prediction.flags)))
    return "\n".join(lines)
