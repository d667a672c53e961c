"""Opens one band of a product as a raster of values: reflectance, or linear backscatter.

Backscatter is averaged as power, so decibels and amplitudes become linear sigma0 before anything is
resampled; GDAL does it block by block, by the pixel functions of a virtual raster.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from ...errors import RasterError
from ...system.path_text import path_text
from ..gdal import DAMAGE, MaskFlags, MemoryFile, gdal_errors, rasterio, without_georeference
from .network import NETWORK_HINT, is_on_network
from .product import Band, SigmaNought
from .value_table import holds_other_marks, value_table

#: Absent pixels in decibels, whose power is 0, and in reflectance as stored: far below any number.
_ABSENT = -1e10
#: Nodes of the calibration table between two of its vectors' values, and between two vectors.
_NODES = 2, 4
_DERIVED = ' subClass="VRTDerivedRasterBand"'
_GDAL_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}


@contextmanager
def open_band(band: Band) -> Iterator[tuple[Any, int, float]]:
    """Open a band; closed on leaving.

    Yields:
        The dataset, the number of its band to read, and the value of absent pixels there.
        Reflectance is as stored, backscatter is linear with 0 where absent.

    Raises:
        RasterError: The file cannot be opened, or holds no real numbers.
    """
    with ExitStack() as stack:
        dataset = stack.enter_context(open_file(band.file, band.driver))
        dtype = dataset.dtypes[band.number - 1]
        if dtype not in _GDAL_TYPES:
            raise RasterError(
                f"{band.file} holds {dtype} pixels, expected integers or floats",
                hint="Complex SAR must be detected first: take a GRD or RTC product",
            )
        if band.unit == "reflectance" and not _needs_table(dataset, band):
            yield dataset, band.number, 0.0
            return
        with read_errors(band.file), without_georeference():
            text = _virtual(dataset, band, stack)
            absent = _ABSENT if band.unit == "reflectance" else 0.0
            yield stack.enter_context(rasterio.open(text, driver="VRT")), 1, absent


@contextmanager
def open_file(file: str, driver: str) -> Iterator[Any]:
    """Open what a `Band` names; closed on leaving.

    Raises:
        RasterError: It cannot be opened.
    """
    with read_errors(file), without_georeference():
        dataset = rasterio.open(path_text(file), driver=driver)
    with dataset:
        yield dataset


def read_errors(file: str) -> Any:
    """Turn what reading a band raises into a `RasterError`."""
    hint = NETWORK_HINT if is_on_network(file) else "The file is damaged or not complete"
    return gdal_errors(f"cannot read {file}", hint=hint, also=DAMAGE)


def _needs_table(dataset: Any, band: Band) -> bool:
    dtype = np.dtype(dataset.dtypes[band.number - 1])
    return holds_other_marks(band, dtype) or _is_masked(dataset, band)


def _is_masked(dataset: Any, band: Band) -> bool:
    flags = dataset.mask_flag_enums[band.number - 1]
    return band.alpha is not None or MaskFlags.per_dataset in flags


def _virtual(dataset: Any, band: Band, stack: ExitStack) -> str:
    """Return the virtual raster of linear backscatter, or of reflectance as stored."""
    mark = _ABSENT if band.unit in ("dB", "reflectance") else 0.0
    sources, function = _source(dataset, band, mark, stack), ""
    if band.unit == "dn":
        if band.calibration is None:
            raise RasterError(f"{band.file} holds amplitudes without a calibration")
        sources += sources + _table(band.calibration, dataset.height, dataset.width, stack)
        function = "mul"
    elif band.unit == "dB":
        function = "dB2pow"
    # No mark under a product: from 3.12 on, GDAL would leave marked factors out of it.
    nodata = "" if function == "mul" else f"<NoDataValue>{mark!r}</NoDataValue>"
    derived = (
        f"<PixelFunctionType>{function}</PixelFunctionType>"
        "<SourceTransferType>Float32</SourceTransferType>"
    )
    return (
        f'<VRTDataset rasterXSize="{dataset.width}" rasterYSize="{dataset.height}">'
        f"{_placement(dataset)}"
        '<VRTRasterBand dataType="Float32" band="1"'
        f"{_DERIVED if function else ''}>"
        f"{nodata}"
        f"{derived if function else ''}{sources}</VRTRasterBand></VRTDataset>"
    )


def _source(dataset: Any, band: Band, mark: float, stack: ExitStack) -> str:
    """Return the source of a band's values, ``mark`` where a pixel is absent."""
    name = path_text(band.file)
    if band.unit == "dn":
        values = "".join(f"<NODATA>{value!r}</NODATA>" for value in band.nodata[:1])
    else:
        dtype = np.dtype(dataset.dtypes[band.number - 1])
        table = value_table(band, dtype, mark, decoded=band.unit != "reflectance")
        values = f"<LUT>{table}</LUT>"
    number = band.number
    if _is_masked(dataset, band):
        values += "<UseMaskBand>true</UseMaskBand>"
        if band.alpha is not None:
            name, number = _masked_by_alpha(dataset, band, stack), 1
    return f"<ComplexSource>{_place(dataset, name, number)}{values}</ComplexSource>"


def _masked_by_alpha(dataset: Any, band: Band, stack: ExitStack) -> str:
    """Return a virtual raster of the band as stored, whose mask is the file's alpha band."""
    dtype = _GDAL_TYPES[dataset.dtypes[band.number - 1]]
    file = path_text(band.file)
    text = (
        f'<VRTDataset rasterXSize="{dataset.width}" rasterYSize="{dataset.height}">'
        f'<VRTRasterBand dataType="{dtype}" band="1">'
        f"<SimpleSource>{_place(dataset, file, band.number)}</SimpleSource></VRTRasterBand>"
        '<MaskBand><VRTRasterBand dataType="Byte">'
        f"<ComplexSource>{_place(dataset, file, band.alpha)}<LUT>0:0,1:255</LUT></ComplexSource>"
        "</VRTRasterBand></MaskBand></VRTDataset>"
    )
    return str(stack.enter_context(MemoryFile(text.encode(), ext=".vrt")).name)


def _place(dataset: Any, file: str, number: int | None) -> str:
    """Return which band of which file fills the virtual raster, pixel by pixel."""
    size = f'xOff="0" yOff="0" xSize="{dataset.width}" ySize="{dataset.height}"'
    return (
        f'<SourceFilename relativeToVRT="0">{escape(file)}</SourceFilename>'
        f"<OpenOptions/><SourceBand>{number}</SourceBand><SrcRect {size}/><DstRect {size}/>"
    )


def _table(calibration: SigmaNought, height: int, width: int, stack: ExitStack) -> str:
    """Return a source of ``1 / a ** 2``: a small regular table that GDAL interpolates."""
    columns = max(_NODES[0] * len(calibration.pixels[0]), 2)
    rows = max(_NODES[1] * len(calibration.lines), 2)
    step_x, step_y = (width - 1) / (columns - 1), (height - 1) / (rows - 1)
    factors = calibration.factors(
        np.linspace(0.0, height - 1.0, rows), np.linspace(0.0, width - 1.0, columns)
    )
    memory = stack.enter_context(MemoryFile())
    with memory.open(
        driver="GTiff", height=rows, width=columns, count=1, dtype="float32"
    ) as dataset:
        dataset.write(factors, 1)
    return (
        f'<SimpleSource resampling="bilinear"><SourceFilename relativeToVRT="0">{memory.name}'
        "</SourceFilename><SourceBand>1</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{columns}" ySize="{rows}"/>'
        f'<DstRect xOff="{0.5 - step_x / 2!r}" yOff="{0.5 - step_y / 2!r}" '
        f'xSize="{columns * step_x!r}" ySize="{rows * step_y!r}"/></SimpleSource>'
    )


def _placement(dataset: Any) -> str:
    """Return what places a dataset on the ground, for a virtual raster of the same pixels."""
    points, points_crs = dataset.gcps
    if points and points_crs is not None:
        listed = "".join(
            f'<GCP Pixel="{p.col!r}" Line="{p.row!r}" X="{p.x!r}" Y="{p.y!r}" Z="{p.z or 0.0!r}"/>'
            for p in points
        )
        wkt = escape(points_crs.to_wkt(), {'"': "&quot;"})
        return f'<GCPList Projection="{wkt}">{listed}</GCPList>'
    transform = ", ".join(repr(number) for number in dataset.transform.to_gdal())
    wkt = "" if dataset.crs is None else escape(dataset.crs.to_wkt())
    return f"<SRS>{wkt}</SRS><GeoTransform>{transform}</GeoTransform>"
