"""WorldCereal reference series: Sentinel-1 and Sentinel-2 of single pixels, with their real gaps.

Long GeoParquet files (one row per sample and date, or months) as the WorldCereal reference data
module hands them out: uint16, 65535 for no data, reflectance x 10000, backscatter so that
``dB = 20 log10(DN) - 83``. Labels are ten-digit codes whose first digits name the group.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.calendar import Calendar, dekads, months
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError, MissingDependencyError
from esccs_edge.pixels.series import in_slots

from .series import UNKNOWN, MemorySeries
from .splits import split_with_one_test_set

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")
POLARIZATIONS = ("VV", "VH")
NODATA = 65535
#: Side of the cells that count as one place, in degrees: about 10 km.
CELL_DEGREES = 0.1

Legend = Literal["cropland", "crops"]

#: Legend -> first digits of a code -> class; the longest that fits counts.
LEGENDS: Mapping[Legend, Mapping[str, str]] = {
    "cropland": {"": "other land", "11": "temporary crops"},
    "crops": {
        "": "other", "1101": "other cereals", "110106": "maize", "1106": "oilseeds",
        "12": "permanent crops", "20": "grassland",
    },
}  # fmt: skip


def open_worldcereal(
    where: str | Path, seed: int = 0, legend: Legend = "cropland", step: str = "auto"
) -> MemorySeries:
    """Open one long file, or all of a folder.

    Args:
        where: ``*.parquet`` or ``*.geoparquet``, or a folder of them.
        seed: Of the division of the places that do not test; the test places are always the same.
        legend: Which classes; see `LEGENDS`.
        step: Slots of the calendar: ``"month"``, ``"dekad"`` (a third of a month), or ``"auto"``:
            months where the files have no more. Of several dates in a month each pixel keeps the
            last valid one.

    Raises:
        InputError: Not such files, or files of different seasons.
        MissingDependencyError: pyarrow is not installed.
    """
    files = _files(Path(where))
    tables = [_columns(file) for file in files]
    table = {name: np.concatenate([part[name] for part in tables]) for name in tables[0]}
    days = table["timestamp"].astype("datetime64[D]")
    calendar = _calendar(days, table, step)
    order = np.lexsort((days, table["sample_id"]))
    ids, first, counts = np.unique(table["sample_id"][order], return_index=True, return_counts=True)
    bands = _stacked(table, [f"S2-L2A-{band}" for band in BANDS], order)
    optical = np.where((bands == NODATA).any(axis=0), 0, bands).astype(np.uint16)
    sar = _decibel(_stacked(table, [f"S1-SIGMA0-{name}" for name in POLARIZATIONS], order))
    slots, days = len(calendar.starts), days[order]
    series: dict[str, list[Array]] = {"optical": [], "sar": []}
    for begin, count in zip(first, counts, strict=True):
        rows = slice(begin, begin + count)
        places = calendar.slots(days[rows].tolist()).tolist()
        series["optical"].append(in_slots(optical[:, rows], places, slots, 0))
        series["sar"].append(in_slots(sar[:, rows], places, slots, None))
    chosen = order[first]
    classes, targets = _classes(table["ewoc_code"][chosen], legend)
    groups = _cells(table["lat"][chosen], table["lon"][chosen])
    return MemorySeries(
        name=f"WorldCereal {', '.join(file.name.split('.')[0] for file in files)}",
        classes=classes,
        groups=groups,
        splits=split_with_one_test_set(np.maximum(targets, 0), groups, seed),
        channels={"optical": BANDS, "sar": POLARIZATIONS},
        pixels={name: np.stack(found)[..., None, None] for name, found in series.items()},
        targets=targets,
        calendar=calendar,
    )


def _files(where: Path) -> list[Path]:
    endings = (".parquet", ".geoparquet")
    files = [where] if where.is_file() else sorted(where.glob("*.geoparquet"))
    if not files or any(file.suffix not in endings for file in files):
        raise InputError(
            f"{where} holds no WorldCereal series, expected a .geoparquet file or a folder of them"
        )
    return files


def _columns(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the columns that count, each as an array."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError.for_extra("pyarrow", "series", "reading Parquet") from None
    wanted = ["sample_id", "timestamp", "lon", "lat", "ewoc_code"]
    wanted += [f"S2-L2A-{band}" for band in BANDS]
    wanted += [f"S1-SIGMA0-{name}" for name in POLARIZATIONS]
    try:
        known = set(pyarrow.parquet.read_schema(file).names)
        if missing := [name for name in wanted if name not in known]:
            raise InputError(
                f"{file} has no column {missing[0]!r}, expected the long form of WorldCereal with "
                f"{', '.join(wanted)}"
            )
        table = pyarrow.parquet.read_table(file, columns=wanted)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"cannot read {file}: {error}") from error
    if not table.num_rows:
        raise InputError(f"{file} is empty, expected series of pixels")
    return {name: table[name].to_numpy() for name in wanted}


def _calendar(days: Array, table: Mapping[str, Array], step: str) -> Calendar:
    """Return slots that cover the longest season; all samples begin in the same month."""
    first_of: dict[str, np.datetime64] = {}
    last_of: dict[str, np.datetime64] = {}
    for name, day in zip(table["sample_id"], days, strict=True):
        first_of[name] = min(first_of.get(name, day), day)
        last_of[name] = max(last_of.get(name, day), day)
    begins = {int(str(day)[5:7]) for day in first_of.values()}
    if len(begins) > 1:
        raise InputError(
            f"series begin in months {sorted(begins)}, expected one season",
            hint="Train on files of one season",
        )
    count = 1 + max(
        int((last_of[name].astype("datetime64[M]") - day.astype("datetime64[M]")).astype(int))
        for name, day in first_of.items()
    )
    is_monthly = all(str(day)[8:] == "01" for day in np.unique(days))
    if step == "month" or step == "auto" and is_monthly:
        return months(begins.pop(), count)
    return dekads(begins.pop(), 3 * count)


def _stacked(table: Mapping[str, Array], names: list[str], order: Array) -> Array:
    return np.stack([np.asarray(table[name])[order] for name in names])


def _decibel(numbers: Array) -> npt.NDArray[np.float32]:
    absent = (numbers == NODATA) | (numbers == 0)
    values = 20 * np.log10(np.where(absent, 1, numbers).astype(np.float64)) - 83
    return np.where(absent.any(axis=0), np.nan, values).astype(np.float32)


def _classes(codes: Array, legend: Legend) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    table = LEGENDS[legend]
    prefixes = sorted(table, key=len, reverse=True)
    classes = tuple(table.values())
    texts = [f"{int(code):010d}" for code in codes]
    found = [next(p for p in prefixes if text.startswith(p)) for text in texts]
    known = [UNKNOWN if set(text) == {"0"} else classes.index(table[prefix])
             for text, prefix in zip(texts, found, strict=True)]  # fmt: skip
    return classes, np.array(known, np.int64)


def _cells(lat: Array, lon: Array) -> tuple[str, ...]:
    rows, columns = (np.floor(values / CELL_DEGREES).astype(int) for values in (lat, lon))
    return tuple(f"{row}/{column}" for row, column in zip(rows, columns, strict=True))
