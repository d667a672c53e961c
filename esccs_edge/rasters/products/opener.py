"""The one way in: whatever path a user gives for a modality -> a `Product`."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

from ...contracts.modality import ModalitySpec, modality_title
from ...contracts.types import PathLike
from ...errors import RasterError
from ..raster_file import regular_file
from . import sentinel1, sentinel2
from .band_folder import read_band_folder, read_one_file
from .container import Container, driver_of
from .network import READERS
from .product import Product, Stating

#: Metadata files that stand for the product whose folder they lie in.
_STANDING = ("manifest.safe",)
#: A `pathlib.Path` of an address has one slash.
_REMOTE = re.compile(r"(https?|s3|gs|az):/{1,2}(?=[^/])", re.IGNORECASE)


def is_product(path: PathLike) -> bool:
    """Return whether a path is not simply a raster that the model could read as it is."""
    text = os.fspath(path)
    if is_remote(text):
        return True
    file = Path(text)
    if file.is_dir() or _stands_for_folder(file):
        return True
    if not file.is_file():  # a pipe would have to be waited for
        return False
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
    except OSError:
        return False
    return head.startswith((b"PK\x03\x04", b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51"))


def is_remote(path: PathLike) -> bool:
    """Return whether a path is an address on a network."""
    return _REMOTE.match(os.fspath(path)) is not None


def address_of(path: PathLike) -> str:
    """Return an address with both of its slashes, of which a `pathlib.Path` keeps one."""
    return _REMOTE.sub(lambda scheme: f"{scheme[1].lower()}://", os.fspath(path))


def open_product(
    path: PathLike,
    name: str,
    spec: ModalitySpec,
    stating: Stating,
) -> Product:
    """Read the metadata of a product; pixels are read later.

    Args:
        path: ``.SAFE`` folder, its zip archive or its main metadata file; a folder or archive of
            single-band files; a raster with all bands.
        name: Modality.
        spec: Contract of the modality: how numbers without any tag are stored.
        stating: What the user says of it.

    Raises:
        RasterError: Nothing that can be read as this modality; metadata that contradict the user or
            themselves.
    """
    if is_remote(path):
        return _remote(os.fspath(path), spec, stating)
    file = Path(os.path.abspath(path))
    if _stands_for_folder(file):
        file = file.parent
    if not file.is_dir() and not (file.is_file() and zipfile.is_zipfile(file)):
        file = regular_file(path)
        with file.open("rb") as stream:
            driver = driver_of(stream.read(12), str(path))
        if _measurement_of_safe(file):
            return open_product(file.parent.parent, name, spec, stating)
        return read_one_file(str(file), driver, spec, stating)
    container = Container(file)
    optical, radar = sentinel2.metadata_name(container), sentinel1.manifest_name(container)
    wanted = "dB" if optical is None else "reflectance"
    if (optical or radar) and spec.unit != wanted:
        found = "Sentinel-1" if optical is None else "Sentinel-2"
        raise RasterError(
            f"{path} is a {found} product, expected {modality_title(name)}",
            hint="Were optical and SAR swapped?",
        )
    if optical is not None:
        product = sentinel2.read_sentinel2(container, optical)
        _require_agreement(product, spec, stating.dn_offset)
        return product
    if radar is not None:
        if stating.sar_unit is not None:
            raise RasterError(
                f"{path} is calibrated from its own annotation, so that a unit means nothing",
                hint="Leave --sar-unit out",
            )
        return sentinel1.read_sentinel1(container, radar)
    return read_band_folder(container, spec, stating)


def _remote(address: str, spec: ModalitySpec, stating: Stating) -> Product:
    if not stating.remote:
        raise RasterError(
            f"{address} lies on a network, which is read only when asked for",
            hint="Add --remote, or download the file first",
        )
    match = _REMOTE.match(address)
    assert match is not None
    scheme, rest = match[1].lower(), address[match.end() :]
    file = f"/{READERS[scheme]}/{f'{scheme}://' if scheme.startswith('http') else ''}{rest}"
    driver = "JP2OpenJPEG" if address.lower().partition("?")[0].endswith(".jp2") else "GTiff"
    return read_one_file(file, driver, spec, stating)


def _require_agreement(product: Product, spec: ModalitySpec, dn_offset: float | None) -> None:
    """Refuse an offset that the user states against the product's own."""
    if dn_offset is None or spec.dn_scale is None:
        return
    for band in product.bands:
        if abs(band.offset - dn_offset * spec.dn_scale) > 1e-9:
            raise RasterError(
                f"{product.name} has an offset of {band.offset / band.scale:g} in {band.name} by "
                f"its metadata, and {dn_offset:g} was given",
                hint="Leave --baseline out; a product tells its own",
            )


def _stands_for_folder(file: Path) -> bool:
    name = file.name.lower()
    if not file.is_file():
        return False
    return name in _STANDING or (name.startswith("mtd_msil") and name.endswith(".xml"))


def _measurement_of_safe(file: Path) -> bool:
    return file.parent.name == "measurement" and (file.parent.parent / "manifest.safe").is_file()
