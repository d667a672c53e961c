"""PASTIS: Sentinel-2 series of French farmland and the crop of every pixel (Garnot, 2021).

A folder with ``metadata.geojson`` (one feature per patch: ``ID_PATCH``, ``Fold`` 1 to 5,
``dates-S2`` as ``{number: YYYYMMDD}``), ``DATA_S2/S2_ID.npy`` ``(T, 10, 128, 128)`` in reflectance
x 10000 and ``ANNOTATIONS/TARGET_ID.npy``, whose first channel is the class. Patches have other
dates each; here they stand in the months of one calendar.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.calendar import Calendar, Days, as_days, months
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError, RasterError
from esccs_edge.pixels.series import in_slots

from .fcn3d import FOLDS
from .rasters import read_array
from .series import UNKNOWN

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
#: As ``documentation/label_names.json`` of the authors' repository numbers them.
CLASSES = (
    "background", "meadow", "soft winter wheat", "corn", "winter barley", "winter rapeseed",
    "spring barley", "sunflower", "grapevine", "beet", "winter triticale", "winter durum wheat",
    "fruits, vegetables, flowers", "potatoes", "leguminous fodder", "soybeans", "orchard",
    "mixed cereal", "sorghum",
)  # fmt: skip
#: Class number of pixels that do not count, in the same list.
VOID = 19
MAX_METADATA_BYTES = 1 << 28


@dataclass(frozen=True)
class Patch:
    """One patch of the metadata.

    Attributes:
        name: ``ID_PATCH``.
        fold: 1 to 5.
        days: Of its images.
    """

    name: str
    fold: int
    days: Days


class Pastis:
    """PASTIS as a `SeriesDataset`, read when asked for."""

    name = "PASTIS"
    classes = CLASSES
    channels: Mapping[str, tuple[str, ...]] = {"optical": BANDS}
    contracts: Mapping[str, ModalitySpec] = {}
    simulated: tuple[str, ...] = ()

    def __init__(self, folder: Path, patches: Sequence[Patch], held_out: int) -> None:
        self._folder, self._patches = folder, patches
        names = {held_out + 1: "test", (held_out + 1) % FOLDS + 1: "val"}
        self.groups = tuple(f"fold {patch.fold}" for patch in patches)
        self.splits = tuple(names.get(patch.fold, "train") for patch in patches)
        first = min(patch.days[0] for patch in patches).astype("datetime64[M]")
        last = max(patch.days[-1] for patch in patches).astype("datetime64[M]")
        count = int((last - first).astype(int)) + 1
        self.calendar: Calendar = months(int(str(first)[5:7]), count)
        self._season = self.calendar.season(first.astype("datetime64[D]"))
        shape = self._read("DATA_S2", "S2", 0).shape
        self.size = (count, shape[2], shape[3])

    def __len__(self) -> int:
        return len(self._patches)

    def series(self, index: int) -> Mapping[str, Array]:
        """Read the images of a patch, each month's last valid one."""
        images = self._read("DATA_S2", "S2", index)
        days = self._patches[index].days
        if images.ndim != 4 or images.shape[:2] != (len(days), len(BANDS)):
            raise InputError(
                f"patch {self._patches[index].name} has images {images.shape}, expected "
                f"({len(days)}, {len(BANDS)}, height, width) for its dates"
            )
        # The authors name no value for what was not seen; their loader masks nothing. Correction
        # of the air leaves values below 0 in single bands; no ground is so in all of them.
        pixels = np.where((images <= 0).all(axis=1, keepdims=True), 0, np.maximum(images, 1))
        slots = self.calendar.slots(days, self._season).tolist()
        moved = np.moveaxis(pixels, 1, 0).astype(np.uint16)
        return {"optical": in_slots(moved, slots, self.size[0], 0)}

    def target(self, index: int) -> npt.NDArray[np.int64]:
        """Read the crop of each pixel."""
        stored = self._read("ANNOTATIONS", "TARGET", index)
        labels = np.asarray(stored[0] if stored.ndim == 3 else stored, np.int64)
        if labels.min() < 0 or labels.max() > VOID:
            raise InputError(
                f"patch {self._patches[index].name} has classes {labels.min()} to {labels.max()}, "
                f"expected 0 to {VOID}"
            )
        return np.where(labels == VOID, UNKNOWN, labels)

    def _read(self, folder: str, prefix: str, index: int) -> Array:
        return read_array(self._folder / folder / f"{prefix}_{self._patches[index].name}.npy")


def open_pastis(where: str | Path, held_out: int = 0) -> Pastis:
    """Open the folder of PASTIS.

    Args:
        where: The folder.
        held_out: Official fold 1 to 5, counted from 0, that tests; the next one validates.

    Raises:
        InputError: Not such a folder.
    """
    folder = Path(where)
    file = folder / "metadata.geojson"
    try:
        if file.stat().st_size > MAX_METADATA_BYTES:
            raise InputError(f"{file} is larger than {MAX_METADATA_BYTES} bytes")
        rows = [feature["properties"] for feature in json.loads(file.read_text())["features"]]
        patches = [_patch(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read {file}: {error!r}",
            hint="Expected PASTIS: metadata.geojson with ID_PATCH, Fold and dates-S2 per patch",
        ) from error
    if not patches or {patch.fold for patch in patches} - set(range(1, FOLDS + 1)):
        raise InputError(f"{file} has {len(patches)} patches, expected some in folds 1 to {FOLDS}")
    try:
        return Pastis(folder, patches, held_out)
    except RasterError as error:
        raise InputError(str(error), hint="Is the archive unpacked in full?") from error


def _patch(row: Mapping[str, Any]) -> Patch:
    dates = row["dates-S2"]
    listed = json.loads(dates) if isinstance(dates, str) else dates
    numbers = [str(listed[key]) for key in sorted(listed, key=int)]
    days = as_days([f"{day[:4]}-{day[4:6]}-{day[6:8]}" for day in numbers])
    return Patch(str(row["ID_PATCH"]), int(row["Fold"]), days)
