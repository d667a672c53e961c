"""A folder of dated rasters, or an ``index.csv`` of them -> which file is of which sensor and day.

Without an index, names tell: a date ``20230823`` or ``2023-08-23``, and, where the model reads two
sensors, a word such as ``S2`` or ``sar``, in the name or as the name of a folder within.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contracts.types import PathLike
from ..errors import InputError, RasterError
from ..system.regular_file import read_regular

#: Columns of an index.
COLUMNS = ("file", "date", "sensor")
INDEX = "index.csv"
#: As many dates as a model of this kind has, many times over.
MAX_FILES = 4096
MAX_INDEX_BYTES = 1 << 24
_SUFFIXES = (".tif", ".tiff")
#: Of images that are not read here: passed over beside a GeoTIFF of the same day, else told.
_OTHER_SUFFIXES = (".jp2", ".zip", ".safe", ".vrt", ".img", ".nc", ".h5", ".hdf")
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_]?)(\d\d)\2(\d\d)(?!\d)")
#: Products whose names hold several dates, the first of which is when the image was taken.
_PRODUCT = re.compile(r"(?:S2[A-D]_MSI|S1[A-D]_|T\d\d[A-Z]{3}_)")
_WORDS = {
    "optical": r"optical|s2[a-d]?|msil1c|msil2a|sentinel-?2|l[ceo]0[4-9]|landsat\d?|hls[ls]30",
    "sar": r"sar|s1[a-d]?|sentinel-?1|grdh?|iw|vv|vh|vvvh",
}
_HINT = f"Rename it, or put an {INDEX} with the columns {', '.join(COLUMNS)} beside the files"


@dataclass(frozen=True)
class DatedFile:
    """One image of a series.

    Attributes:
        path: The file.
        sensor: Modality name.
        date: The day.
    """

    path: Path
    sensor: str
    date: np.datetime64


def dated_files(source: PathLike, sensors: Iterable[str]) -> list[DatedFile]:
    """Find the images of a series, by sensor and then by date.

    Args:
        source: A folder, which may hold an ``index.csv``, or such a file; paths in it are relative
            to it. Files that are no GeoTIFF by their names are passed over, but for images in
            other formats of days that have no GeoTIFF.
        sensors: Modality names of the model.

    Raises:
        InputError: A name holds no date or several, or does not tell the sensor; an index that
            cannot be understood; two images of one sensor on one day; or no image at all.
        RasterError: There is no such folder or file.
    """
    place, known = Path(source), tuple(sensors)
    if place.is_dir():
        listed = place / INDEX
        found = _of_index(listed, known) if listed.is_file() else _of_folder(place, known)
    elif place.suffix.lower() == ".csv":
        found = _of_index(place, known)
    else:
        raise RasterError(
            f"{place} is neither a folder nor an index (.csv)",
            hint="Give a folder of dated GeoTIFFs, or an index of them",
        )
    if not 0 < len(found) <= MAX_FILES:
        raise InputError(
            f"{place} holds {len(found)} dated rasters, expected 1 to {MAX_FILES}",
            hint="Names end in .tif and hold a date, such as s2_20230823.tif",
        )
    found.sort(key=lambda file: (known.index(file.sensor), file.date, file.path))
    for first, second in zip(found[:-1], found[1:], strict=True):
        if (first.sensor, first.date) == (second.sensor, second.date):
            raise InputError(
                f"{first.path.name} and {second.path.name} are both of {first.sensor} on "
                f"{first.date}, expected one image a day",
                hint="Merge the images of one day, such as those of neighboring orbits",
            )
    return found


def _of_folder(folder: Path, sensors: Sequence[str]) -> list[DatedFile]:
    found, others = [], []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts):
            continue
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            sensor = _sensor_of(inside, sensors)
            if sensor is not None:
                found.append(DatedFile(path, sensor, _date_of(path)))
        elif path.suffix.lower() in _OTHER_SUFFIXES:
            others.append(path)
    _require_no_others(others, found, folder, sensors)
    return found


def _require_no_others(
    others: Iterable[Path], found: Iterable[DatedFile], folder: Path, sensors: Sequence[str]
) -> None:
    """Refuse images that would be lost without a word: of a sensor and day without a GeoTIFF."""
    days = {(file.sensor, file.date) for file in found}
    for path in others:
        try:
            sensor, day = _sensor_of(path.relative_to(folder), sensors), _date_of(path)
        except InputError:
            continue  # a picture or archive of something else
        if sensor is not None and (sensor, day) not in days:
            raise InputError(
                f"{path.name} is no GeoTIFF by its name, expected GeoTIFFs of all dates",
                hint="Bring it to one first: esccs-edge stack OPTICAL SAR --out pair; or move it "
                "elsewhere to leave it out",
            )


def _date_of(path: Path) -> np.datetime64:
    texts = [f"{year}-{month}-{day}" for year, _, month, day in _DATE.findall(path.stem)]
    try:
        days = list(dict.fromkeys(np.datetime64(text, "D") for text in texts))
    except ValueError:
        days = []
    if len(days) == 1 or days and _PRODUCT.match(path.stem):
        return days[0]
    shown = " and ".join(map(str, days)) or "no date"
    raise InputError(f"{path.name} has {shown} in its name, expected one date", hint=_HINT)


def _sensor_of(path: Path, sensors: Sequence[str]) -> str | None:
    """Return the sensor that a name tells; None where it is one that the model does not read."""
    words = re.split(r"[^a-z0-9-]+", path.with_suffix("").as_posix().lower())
    told = [
        name
        for name, pattern in _WORDS.items()
        if any(re.fullmatch(pattern, word) for word in words)
    ]
    if len(told) == 1:
        return told[0] if told[0] in sensors else None
    if not told and len(sensors) == 1:
        return sensors[0]
    shown = " and ".join(told) or "no sensor"
    raise InputError(
        f"{path} tells {shown} by its name, expected one of {', '.join(sensors)}", hint=_HINT
    )


def index_rows(index: Path, max_bytes: int) -> list[dict[str, str]]:
    """Return the rows of a CSV file by column; cells too many stand under None.

    Raises:
        InputError: It cannot be read, or is larger.
    """
    try:
        text = read_regular(index, max_bytes).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names = [name.strip() for name in reader.fieldnames or ()]
        if len(names) == 1 and (mark := re.search("[;\t|]", names[0])):
            raise InputError(
                f"{index} has columns separated by {mark[0]!r}, expected commas",
                hint="Write it as comma-separated values",
            )
        reader.fieldnames = names
        return [
            {name: cell.strip() if isinstance(cell, str) else cell for name, cell in row.items()}
            for row in reader
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{index} cannot be read as an index: {error}",
            hint=f"Write it as UTF-8 text with the columns {', '.join(COLUMNS)}",
        ) from error


def _of_index(index: Path, sensors: Sequence[str]) -> list[DatedFile]:
    found = []
    for number, row in enumerate(index_rows(index, MAX_INDEX_BYTES), start=2):
        place = f"{index}, line {number}"
        if None in row or any(not row.get(name) for name in COLUMNS[:2]):
            raise InputError(
                f"{place} lacks a file or a date, or has cells too many, expected the columns "
                f"{', '.join(COLUMNS)}",
                hint=f"Begin the file with the line {','.join(COLUMNS)}",
            )
        sensor = row.get("sensor") or (sensors[0] if len(sensors) == 1 else "")
        if sensor not in (*sensors, *_WORDS):
            raise InputError(f"{place} has the sensor {sensor!r}, expected {', '.join(sensors)}")
        path = index.parent / row["file"]
        if not path.is_file():
            raise InputError(
                f"{place} names {path}, which does not exist",
                hint="Paths are relative to the folder of the index, with / between folders",
            )
        if sensor in sensors:
            found.append(DatedFile(path, sensor, _day(row["date"], place)))
    return found


def _day(text: str, place: str) -> np.datetime64:
    match = _DATE.fullmatch(text.strip()[:10])
    try:
        if match is not None:
            year, _, month, day = match.groups()
            return np.datetime64(f"{year}-{month}-{day}", "D")
    except ValueError:
        pass
    raise InputError(
        f"{place} has the date {text!r}, expected YYYY-MM-DD",
        hint="Write year, month and day, such as 2023-08-23",
    )
