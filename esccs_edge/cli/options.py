"""Options that several commands share, spelled once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import click

from ..contracts.bundle_files import Precision

#: Stands for an absent modality where a raster is expected.
ABSENT = "-"

bundle_option = click.option(
    "--bundle",
    default="default",
    metavar="BUNDLE",
    show_default=True,
    help="Model bundle folder, or 'default'.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", "cpu", "tensorrt"]),
    default="auto",
    show_default=True,
    help="Where to run; 'auto' takes TensorRT where a GPU is usable.",
)
PRECISIONS = click.Choice(get_args(Precision))
precision_option = click.option(
    "--precision",
    type=PRECISIONS,
    default="auto",
    show_default=True,
    help="Number format of the network; 'auto' takes what is exact and fastest on this device.",
)
baseline_option = click.option(
    "--baseline",
    metavar="NN.NN",
    help="Sentinel-2 processing baseline of the product, such as 05.10; from 04.00 on, 1000 is "
    "subtracted from each digital number. Leave out for older or harmonized products.",
)
sar_unit_option = click.option(
    "--sar-unit",
    type=click.Choice(["dB", "linear"]),
    help="Unit of the SAR raster  [as the bundle says].",
)
seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")


def raster_path(text: str) -> Path | None:
    """Return the path, or None for the sign of an absent modality."""
    return None if text == ABSENT else Path(text)


def raster_pair(optical: str, sar: str) -> tuple[Path | None, Path | None]:
    """Return both paths; refuses a pair in which both are absent."""
    pair = raster_path(optical), raster_path(sar)
    if pair == (None, None):
        raise click.UsageError("OPTICAL and SAR are both '-'; give at least one raster")
    return pair


def named_paths(inputs: Iterable[str]) -> dict[str, Path | None]:
    """Return modality -> path of ``NAME=FILE`` texts; refuses other texts and repeated names."""
    paths: dict[str, Path | None] = {}
    for text in inputs:
        name, _, file = text.partition("=")
        if not name or not file or name in paths:
            wanted = "each name once" if name in paths else "NAME=FILE"
            raise click.BadParameter(f"{text!r} is given, expected {wanted}", param_hint="--input")
        paths[name] = raster_path(file)
    return paths


def dn_offset_of(baseline: str | None) -> int | None:
    """Return the offset to add to digital numbers, or None to follow the manifest."""
    from ..contracts.sensors import sentinel2_dn_offset

    return None if baseline is None else sentinel2_dn_offset(baseline)
