"""Which stored numbers of a band are measurements: the table by which GDAL maps them.

A file marks absent pixels by its tag, by the mark of the model, by both, or by none: then by a
number that no instrument measures. All have to be gone before anything is resampled, since an
average of a mark and a measurement looks like a measurement.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...contracts.sensors import HIGHEST, LOWEST_DB, LOWEST_REFLECTANCE
from .product import Band

#: Unit -> lowest and highest value that can be measured.
_MEASURED = {
    "reflectance": (LOWEST_REFLECTANCE, HIGHEST),
    "dB": (LOWEST_DB, HIGHEST),
    "linear": (np.nextafter(0.0, 1.0), 10 ** (HIGHEST / 10)),
}
#: Share of a mark by which a floating-point pixel that means it may differ: single precision.
_ROUNDING = 1e-6


def holds_other_marks(band: Band, dtype: np.dtype[Any]) -> bool:
    """Return whether absent pixels may hold anything but 0, which needs no table."""
    if dtype.kind != "u" or band.nodata != (0,):
        return True
    low, high = _stored_range(band)
    return not low <= 0 <= np.iinfo(dtype).max <= high


def value_table(band: Band, dtype: np.dtype[Any], absent: float, *, decoded: bool) -> str:
    """Return the table of a virtual raster, ``stored:value,...``, between which GDAL interpolates.

    Args:
        band: The band; its unit is not ``"dn"``.
        dtype: Of the file.
        absent: Value of absent pixels.
        decoded: True to make values of the band's unit, False to keep measurements as stored.
    """
    low, high = _stored_range(band)
    ranges = []
    for mark in sorted(set(band.nodata)):
        if low < mark < high:
            reach = 0.5 if dtype.kind in "iu" else max(abs(mark) * _ROUNDING, 1e-30)
            ranges.append((low, mark - reach))
            low = mark + reach
    ranges.append((low, high))
    scale, offset = (band.scale, band.offset) if decoded else (1.0, 0.0)
    points = []
    for first, last in ranges:
        points += [
            (math.nextafter(first, -math.inf), absent),
            (first, first * scale + offset),
            (last, last * scale + offset),
            (math.nextafter(last, math.inf), absent),
        ]
    return ",".join(f"{float(stored)!r}:{float(value)!r}" for stored, value in points)


def _stored_range(band: Band) -> tuple[float, float]:
    low, high = ((end - band.offset) / band.scale for end in _MEASURED[band.unit])
    return min(low, high), max(low, high)
