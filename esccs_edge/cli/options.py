"""Options that several commands share, spelled once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from ..contracts.bundle_files import Precision
from ..contracts.modality import modality_title
from .completion import complete_bundles

if TYPE_CHECKING:
    from ..contracts.bundle import Bundle

F = TypeVar("F", bound=Callable[..., Any])

#: Stands for an absent modality where a raster is expected.
ABSENT = "-"

_DIGEST = "esccs_edge.digest"


def _keep_digest(context: click.Context, _: click.Parameter, digest: str | None) -> None:
    context.meta[_DIGEST] = digest


digest_option = click.option(
    "--digest",
    metavar="SHA256",
    expose_value=False,
    callback=_keep_digest,
    help="SHA-256 that the bundle's manifest.json must have; `esccs-edge verify` prints it.",
)


def bundle_option(function: F) -> F:
    """Add ``--bundle`` and ``--digest``; `open_bundle` opens what they name."""
    option = click.option(
        "--bundle",
        default="default",
        metavar="BUNDLE",
        shell_complete=complete_bundles,
        show_default=True,
        help="Model bundle folder, or one in the package: default, land-cover, crop-series.",
    )
    return option(digest_option(function))


def bundle_argument(function: F) -> F:
    """Add the argument BUNDLE and ``--digest``; `open_bundle` opens what they name."""
    return click.argument("bundle", shell_complete=complete_bundles)(digest_option(function))


def given_digest() -> str | None:
    """Return what ``--digest`` gives to the command that runs."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_DIGEST)


def open_bundle(bundle: str) -> Bundle:
    """Open a bundle under the digest that was given; see `Bundle.open`."""
    from ..contracts.bundle import Bundle

    return Bundle.open(bundle, digest=given_digest())


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
device_option = click.option(
    "--device",
    metavar="GPU",
    help="GPU to run on by its number, several such as 0,1, or 'all'  [$ESCCS_DEVICE, or 0].",
)
flavor_option = click.option(
    "--flavor",
    type=click.Choice(["auto", "tensorrt", "rtx"]),
    help="TensorRT library; 'auto' takes tensorrt where installed  [$ESCCS_FLAVOR, or auto].",
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
remote_option = click.option(
    "--remote",
    is_flag=True,
    help="Allow inputs at http:, s3:, gs: and az: addresses; without it nothing is fetched.",
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


def require_used(
    paths: Mapping[str, Path | None], baseline: str | None, sar_unit: str | None
) -> None:
    """Refuse an option about the pixels of a modality that is not given."""
    for name, option, value in (
        ("optical", "--baseline", baseline),
        ("sar", "--sar-unit", sar_unit),
    ):
        if value is not None and name in paths and paths[name] is None:
            raise click.UsageError(f"{option} is given, but no {modality_title(name)} raster")


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


def clouds_option(function: F) -> F:
    """Add ``--clouds`` of commands that judge."""
    return click.option(
        "--clouds",
        type=int,
        metavar="SEED",
        multiple=True,
        help="Simulate clouds over the optical images, from this seed; may be repeated.",
    )(function)


def simulate_sar_option(function: F) -> F:
    """Add ``--simulate-sar`` of commands that judge."""
    return click.option(
        "--simulate-sar",
        is_flag=True,
        help="Simulate the SAR that the data lack, from the optical images alone, never the "
        "labels.",
    )(function)
