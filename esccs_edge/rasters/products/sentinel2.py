"""A Sentinel-2 product of level 1C or 2A: ``.SAFE`` folder or zip archive.

Sentinel-2 Products Specification Document: reflectance is ``(dn + RADIO_ADD_OFFSET) /
QUANTIFICATION_VALUE`` with one offset per band (``BOA_`` names in L2A), and 0 marks absent pixels.
The offset is taken from the metadata, so that it is applied once, whatever the baseline.
"""

from __future__ import annotations

import re

from ...contracts.sensors import SENTINEL2_L1C_BANDS, sentinel2_dn_offset
from ...errors import RasterError
from .container import Container
from .metadata import Metadata, time_of
from .product import ABSENT_DN, Band, Product, finest_first

_METADATA = re.compile(r"(.*/)?[^/]*MTD_(?:MSI|SAF)L(?:1C|2A)[^/]*\.xml")
_IMAGE = re.compile(
    r"GRANULE/([^/]+)/IMG_DATA/(?:.*/)?[^/]*_(B\d\d|B8A)(?:_(\d\d)m)?\.(?:jp2|tiff?)", re.IGNORECASE
)
_LEVELS = {"Level-1C": "L1C", "Level-2A": "L2A", "Level-2Ap": "L2A"}
#: Real products have 10,000: a reflectance of 1 in digital numbers.
_QUANTIFICATION = 1_000.0, 65_535.0
_BROKEN = "The product is not complete: download it again"


def metadata_name(container: Container) -> str | None:
    """Return the product's metadata file, or None where the container holds no Sentinel-2 product.

    Raises:
        RasterError: It holds several.
    """
    found = sorted(
        (name for name in container.names if _METADATA.fullmatch(name)),
        key=lambda name: name.count("/"),
    )
    top = [name for name in found if name.count("/") == found[0].count("/")]
    if len(top) > 1:
        raise RasterError(
            f"{container.path} holds {len(top)} Sentinel-2 products: {', '.join(top)}",
            hint="Give the folder of one of them",
        )
    return top[0] if top else None


def read_sentinel2(container: Container, name: str) -> Product:
    """Read a product from its metadata file ``name``.

    Raises:
        RasterError: The metadata or images are incomplete or contradict each other, or the product
            has several granules.
    """
    metadata = Metadata(container.read(name), f"{container.path}/{name}")
    level = _LEVELS.get(metadata.text("PROCESSING_LEVEL") or "")
    if level is None:
        raise RasterError(
            f"{metadata.name} has PROCESSING_LEVEL {metadata.text('PROCESSING_LEVEL')!r}, expected "
            "Level-1C or Level-2A",
            hint="Other levels cannot be mapped; download L1C",
        )
    quantification = metadata.number("QUANTIFICATION_VALUE", "BOA_QUANTIFICATION_VALUE")
    if quantification is None or not _QUANTIFICATION[0] <= quantification <= _QUANTIFICATION[1]:
        raise RasterError(
            f"{metadata.name} has QUANTIFICATION_VALUE {quantification}, expected 10000",
            hint=_BROKEN,
        )
    baseline = metadata.text("PROCESSING_BASELINE")
    offsets = _offsets(metadata, baseline)
    folder = name.rpartition("/")[0]
    images = _images(container, f"{folder}/" if folder else "")
    if untold := sorted({band for band, _, _ in images} - offsets.keys()):
        raise RasterError(
            f"{metadata.name} lists offsets, but none of {', '.join(untold)}", hint=_BROKEN
        )
    bands = [
        (
            band,
            pixel,
            Band(
                band,
                container.gdal_name(file),
                container.driver(file),
                scale=1 / quantification,
                offset=offsets[band] / quantification,
                nodata=(ABSENT_DN,),
            ),
        )
        for band, pixel, file in images
    ]
    title = metadata.text("PRODUCT_URI", "PRODUCT_URI_1C", "PRODUCT_URI_2A") or container.path.name
    return Product(
        title,
        finest_first(bands, title),
        level=level,
        acquired=time_of(metadata.text("DATATAKE_SENSING_START", "PRODUCT_START_TIME")),
        baseline=baseline,
        zero_is_absent=any(offset < 0 for offset in offsets.values()),
        notes=(f"baseline {baseline}, offset {_span(list(offsets.values()))} applied",),
    )


def _offsets(metadata: Metadata, baseline: str | None) -> dict[str, float]:
    """Return the offset of each band; without a list in the metadata it is 0.

    Raises:
        RasterError: The baseline has offsets but the metadata list none, or only a part.
    """
    offsets: dict[str, float] = {}
    listed = [*metadata.elements("RADIO_ADD_OFFSET"), *metadata.elements("BOA_ADD_OFFSET")]
    for element in listed:
        index = element.get("band_id", "")
        if not index.isdecimal() or int(index) >= len(SENTINEL2_L1C_BANDS):
            raise RasterError(f"{metadata.name} has an offset of band {index!r}", hint=_BROKEN)
        text = (element.text or "").strip()
        offset = metadata.as_number(text, "RADIO_ADD_OFFSET")
        if not -_QUANTIFICATION[0] <= offset <= 0:
            raise RasterError(
                f"{metadata.name} has an offset of {offset:g}, expected 0 or -1000", hint=_BROKEN
            )
        offsets[SENTINEL2_L1C_BANDS[int(index)]] = offset
    if not listed and baseline is not None and sentinel2_dn_offset(baseline):
        raise RasterError(
            f"{metadata.name} is of baseline {baseline} but lists no RADIO_ADD_OFFSET",
            hint="The metadata were changed: download the product again",
        )
    return offsets or dict.fromkeys(SENTINEL2_L1C_BANDS, 0.0)


def _images(container: Container, root: str) -> list[tuple[str, float, str]]:
    """Return band, pixel size as its name says it (10 where it does not), and file."""
    found, granules = [], set()
    for file in container.names:
        match = _IMAGE.fullmatch(file[len(root) :]) if file.startswith(root) else None
        if match is not None:
            granules.add(match[1])
            found.append((match[2].upper(), float(match[3] or 10), file))
    if not found:
        raise RasterError(f"{container.path} has no images below GRANULE/*/IMG_DATA", hint=_BROKEN)
    if len(granules) > 1:
        raise RasterError(
            f"{container.path} has {len(granules)} granules: {', '.join(sorted(granules))}",
            hint="Give a product of one tile, as all are since December 2016, or the folder "
            "IMG_DATA of one granule",
        )
    return found


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
