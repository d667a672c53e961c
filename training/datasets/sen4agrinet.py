"""Sen4AgriNet: Sentinel-2 years of Catalonia and France and the crop of every pixel (Sykas, 2022).

netCDF4 files, one per patch of 366 x 366 pixels of 10 m and year: a group per band of Level-1C
with ``time`` and the band ``(time, y, x)`` at 10, 20 or 60 m, and ``labels`` with codes of crops.
As in the experiments of its authors the months from April to September count, each by the median of
its images, and eleven crops are told apart; other crops are one class, ground without a parcel does
not count. Patches are cut into windows, and Sentinel-2 tiles are never split.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.calendar import Calendar, Days, months
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError, MissingDependencyError

from .series import UNKNOWN
from .splits import split_by_group

#: Codes of the crops that are told apart.
CROPS = {
    110: "wheat", 120: "maize", 140: "sorghum", 150: "barley", 160: "rye", 170: "oats",
    330: "grapes", 435: "rapeseed", 438: "sunflower", 510: "potatoes", 770: "peas",
}  # fmt: skip
CALENDAR: Calendar = months(4, 6)
#: Side of a window: a multiple of 16 that fits twice into a patch.
WINDOW = 176
_UNITS = {"days": "D", "hours": "h", "minutes": "m", "seconds": "s"}


class Sen4AgriNet:
    """A folder of patches as a `SeriesDataset`, read when asked for.

    Args:
        files: The patches.
        seed: Of the split by tile.
        window: Side of a window in pixels.
    """

    name = "Sen4AgriNet"
    classes: tuple[str, ...] = (*CROPS.values(), "other crops")
    channels: Mapping[str, tuple[str, ...]] = {"optical": SENTINEL2_L1C_BANDS}
    contracts: Mapping[str, ModalitySpec] = {}
    simulated: tuple[str, ...] = ()
    calendar: Calendar | None = CALENDAR

    def __init__(self, files: list[Path], seed: int = 0, window: int = WINDOW) -> None:
        self._windows = []
        tiles = []
        for file in files:
            labels, tile = _labels(file)
            rows, columns = (side // window for side in labels.shape)
            places = [(file, r * window, c * window) for r in range(rows) for c in range(columns)]
            self._windows += places
            tiles += [tile] * len(places)
        if not self._windows:
            raise InputError(f"no patch is as large as a window of {window} pixels")
        self.size = (len(CALENDAR.starts), window, window)
        self.groups = tuple(tiles)
        alike = np.zeros(len(tiles), np.int64)
        self.splits = split_by_group(alike, self.groups, seed, every_class=False)

    def __len__(self) -> int:
        return len(self._windows)

    def series(self, index: int) -> Mapping[str, Array]:
        """Read the monthly medians of a window; 0 where a month has no valid pixel."""
        file, row, column = self._windows[index]
        side = self.size[1]
        bands = []
        with _opened(file) as stored:
            full = stored["labels/labels"].shape[0]
            for band in SENTINEL2_L1C_BANDS:
                images, days = stored[f"{band}/{band}"], _days(stored[f"{band}/time"], file)
                scale = full // images.shape[1]
                first, last = row // scale, -(-(row + side) // scale)
                left, right = column // scale, -(-(column + side) // scale)
                part = images[:, first:last, left:right].repeat(scale, 1).repeat(scale, 2)
                skip = row - first * scale, column - left * scale
                part = part[:, skip[0] : skip[0] + side, skip[1] : skip[1] + side]
                bands.append(_monthly(part, days))
        pixels = np.stack(bands)
        seen = (pixels > 0).any(axis=0)
        return {"optical": np.where(seen, np.maximum(pixels, 1), 0).astype(np.uint16)}

    def target(self, index: int) -> npt.NDArray[np.int64]:
        """Read the crop of each pixel."""
        file, row, column = self._windows[index]
        side = self.size[1]
        codes = _labels(file)[0][row : row + side, column : column + side]
        found = np.full(codes.shape, len(CROPS), np.int64)
        for number, code in enumerate(CROPS):
            found[codes == code] = number
        found[codes == 0] = UNKNOWN
        return found


def open_sen4agrinet(where: str | Path, seed: int = 0, window: int = WINDOW) -> Sen4AgriNet:
    """Open a folder of patches, ``*.nc``, also in folders within.

    Raises:
        InputError: No such files.
        MissingDependencyError: h5py is not installed.
    """
    files = sorted(Path(where).rglob("*.nc"))
    if not files:
        raise InputError(
            f"{where} holds no patch of Sen4AgriNet, expected files such as "
            "2019_31TBF_patch_01_02.nc"
        )
    return Sen4AgriNet(files, seed, window)


def _opened(file: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingDependencyError.for_extra("h5py", "train", "reading netCDF4") from None
    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise InputError(f"cannot read {file}: {error}") from error


def _labels(file: Path) -> tuple[npt.NDArray[np.int64], str]:
    """Return the codes of a patch and its Sentinel-2 tile."""
    with _opened(file) as stored:
        try:
            tile = stored.attrs["patch_tile"]
            codes = np.asarray(stored["labels/labels"][()], np.int64)
        except KeyError as error:
            raise InputError(
                f"{file} lacks {error}, expected a patch of Sen4AgriNet with patch_tile and labels"
            ) from error
    return codes, tile.decode() if isinstance(tile, bytes) else str(np.asarray(tile).item())


def _days(times: Any, file: Path) -> Days:
    """Return the days of a CF time axis, such as ``days since 2019-01-04``."""
    units = times.attrs.get("units", b"")
    text = units.decode() if isinstance(units, bytes) else str(units)
    step, _, since = text.partition(" since ")
    try:
        start = np.datetime64(since.strip().replace(" ", "T"), "s")
        counts = np.asarray(times[()], np.int64).astype(f"timedelta64[{_UNITS[step]}]")
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{file} counts time in {text!r}, expected for example 'days since 2019-01-01'"
        ) from error
    return np.asarray(start + counts, "datetime64[D]")


def _monthly(images: Array, days: Days) -> npt.NDArray[np.float32]:
    """Return medians ``(T, H, W)`` of valid pixels ``(n, H, W)`` by month; 0 without any."""
    found = np.zeros((len(CALENDAR.starts), *images.shape[1:]), np.float32)
    numbers = days.astype("datetime64[M]").astype(int) % 12 + 1
    for slot, month in enumerate(CALENDAR.months):
        chosen = images[numbers == month].astype(np.float32)
        chosen[chosen == 0] = np.nan
        seen = np.isfinite(chosen).any(axis=0)
        found[slot][seen] = np.rint(np.nanmedian(chosen[:, seen], axis=0))
    return found
