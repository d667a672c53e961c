"""A Sentinel-1 GRD product: ``.SAFE`` folder or zip archive, calibrated to sigma0 when read.

Calibration comes from the product's own annotation. The image is placed by the control points of
the measurement files, which lie on the ellipsoid at the ground's height there: terrain between them
is not corrected.
"""

from __future__ import annotations

import re

import numpy as np

from ...errors import RasterError
from .container import Container
from .metadata import Metadata, time_of
from .product import Band, Product, SigmaNought

_MANIFEST = "manifest.safe"
_MEASUREMENT = re.compile(r"measurement/[^/]*-grd-(vv|vh|hh|hv)-[^/]*\.tiff?", re.IGNORECASE)
_CALIBRATION = "annotation/calibration/calibration-"
_BROKEN = "The product is not complete: download it again"
_NOTES = (
    "calibrated to sigma0; terrain is not corrected, so that slopes lie off their place: in "
    "mountains take a terrain-corrected (RTC) product",
    "thermal noise is not subtracted",
)


def manifest_name(container: Container) -> str | None:
    """Return the manifest of a Sentinel-1 product, or None where the container holds none.

    Raises:
        RasterError: It holds several.
    """
    found = [name for name in container.names if name.rpartition("/")[2].lower() == _MANIFEST]
    ours = [name for name in found if b"SENTINEL-1" in container.read(name).upper()]
    if len(ours) > 1:
        raise RasterError(
            f"{container.path} holds {len(ours)} Sentinel-1 products: {', '.join(ours)}",
            hint="Give the folder of one of them",
        )
    return ours[0] if ours else None


def read_sentinel1(container: Container, name: str) -> Product:
    """Read a product from its manifest.

    Raises:
        RasterError: Not a ground range (GRD) product, or measurement or calibration is missing.
    """
    manifest = Metadata(container.read(name), f"{container.path}/{name}")
    kind = manifest.text("productType")
    if kind != "GRD":
        raise RasterError(
            f"{container.path.name} is a Sentinel-1 product of type {kind}, expected GRD",
            hint="Download the GRD product of the same date, or a terrain-corrected (RTC) one",
        )
    root = name[: -len(_MANIFEST)]
    bands = []
    for file in container.names:
        match = _MEASUREMENT.fullmatch(file[len(root) :]) if file.startswith(root) else None
        if match is None:
            continue
        stem = file.rpartition("/")[2].rpartition(".")[0]
        calibration = _calibration(container, f"{root}{_CALIBRATION}{_without_cog(stem)}.xml")
        bands.append(
            Band(
                match[1].upper(),
                container.gdal_name(file),
                container.driver(file),
                unit="dn",
                nodata=(0,),
                calibration=calibration,
            )
        )
    if not bands:
        raise RasterError(f"{container.path} has no images below measurement/", hint=_BROKEN)
    return Product(
        container.path.name if not root else root.rstrip("/").rpartition("/")[2],
        tuple(bands),
        level="GRD",
        acquired=time_of(manifest.text("startTime")),
        notes=_NOTES,
    )


def _without_cog(stem: str) -> str:
    """Measurements that are COGs are named after their annotation with ``-cog`` added."""
    return stem.removesuffix("-cog")


def _calibration(container: Container, name: str) -> SigmaNought:
    if name not in container.names:
        raise RasterError(f"{container.path} has no {name}", hint=_BROKEN)
    metadata = Metadata(container.read(name), f"{container.path}/{name}")
    vectors = sorted(
        (
            (
                metadata.numbers(vector, "line"),
                metadata.numbers(vector, "pixel"),
                metadata.numbers(vector, "sigmaNought"),
            )
            for vector in metadata.elements("calibrationVector")
        ),
    )
    lines = [int(line[0]) for line, _, _ in vectors if line]
    for _, pixels, values in vectors:
        if len(pixels) != len(values) or not pixels or min(values) <= 0 or pixels != sorted(pixels):
            raise RasterError(
                f"{metadata.name} has {len(values)} values at {len(pixels)} pixels in one vector, "
                "expected as many positive values as rising pixels",
                hint=_BROKEN,
            )
    if not vectors or len(lines) != len(vectors) or len(set(lines)) != len(lines):
        raise RasterError(
            f"{metadata.name} has no calibration vectors of their lines", hint=_BROKEN
        )
    return SigmaNought(
        tuple(lines),
        tuple(np.array(pixels) for _, pixels, _ in vectors),
        tuple(np.array(values) for _, _, values in vectors),
    )
