"""WHU-OPT-SAR: GaoFen-1 (RGB and near infrared) and GaoFen-3 SAR of Hubei at 5 m, seven classes.

Li et al., 2022; 100 tiles of 5556 x 3704 pixels without clouds, so clouds are simulated. The tiles
are read in patches. SAR has one channel and is shown as it is. How CloudSeg cut and split the
set is not public: patches of 256 pixels and a split by tile are a choice of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.errors import InputError, RasterError

from .dataset import SPLITS
from .map_dataset import MapSample, class_numbers
from .rasters import Part, raster_size, read_raster

CLASSES = ("farmland", "city", "village", "water", "forest", "road", "others")
#: Code in the label files -> class; background (0) and codes that are not listed do not count.
CODES: Mapping[int, int] = MappingProxyType({10: 0, 20: 1, 30: 2, 40: 3, 50: 4, 60: 5, 70: 6})
OPTICAL_CHANNELS = ("red", "green", "blue", "near-infrared")
SAR_CHANNELS = ("sar-1",)
FOLDERS = ("optical", "sar", "lbl")
PATCH = 256
#: Every fifth tile is judged on, as many as the set's own list; of the others every eighth tunes.
TEST_EVERY, VAL_EVERY = 5, 8


@dataclass(frozen=True)
class WhuOptSar:
    """A `MapDataset` of patches that are read when asked for.

    Attributes:
        patches: Tile name, row and column of each patch.
    """

    root: Path
    patches: tuple[tuple[str, int, int], ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    name: str = "WHU-OPT-SAR"
    classes: tuple[str, ...] = CLASSES
    optical_channels: tuple[str, ...] = OPTICAL_CHANNELS
    sar_channels: tuple[str, ...] = SAR_CHANNELS
    has_cloud_masks: bool = False
    simulated: tuple[str, ...] = ()
    contracts: Mapping[str, ModalitySpec] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.patches)

    def sample(self, index: int) -> MapSample:
        """Read a patch.

        Raises:
            RasterError: A file cannot be read, or does not hold 8-bit pixels.
        """
        tile, row, column = self.patches[index]
        part: Part = ((row, row + PATCH), (column, column + PATCH))
        images = []
        for folder, channels in zip(FOLDERS, (len(OPTICAL_CHANNELS), 1, 1), strict=True):
            path = self.root / folder / tile
            pixels = read_raster(path, channels, part)
            if pixels.dtype != np.uint8:
                raise RasterError(f"{path} holds {pixels.dtype} values, expected uint8")
            images.append(pixels)
        optical, sar, codes = images
        return MapSample(optical, sar, class_numbers(codes[0], CODES))


def open_whu_opt_sar(folder: str | Path) -> WhuOptSar:
    """Open the set; the split is by tile.

    ``train.txt``, ``val.txt`` and ``test.txt`` in the folder, one tile name in a line, give the
    split where they are there.

    Args:
        folder: Folder with ``optical``, ``sar`` and ``lbl``, each with one file per tile.

    Raises:
        InputError: A folder or the file of a tile is missing, or the images of a tile differ in
            size.
    """
    root = Path(folder)
    if lacking := [name for name in FOLDERS if not (root / name).is_dir()]:
        raise InputError(
            f"no folder {lacking[0]!r} in {root}", hint="WHU-OPT-SAR has optical, sar and lbl"
        )
    tiles = sorted(path.name for path in (root / "lbl").glob("*.tif"))
    if not tiles:
        raise InputError(f"no tile in {root / 'lbl'}, expected *.tif")
    home = _listed(root, tiles) or _dealt(tiles)
    patches, groups, splits = [], [], []
    for tile, split in home.items():
        height, width = _size(root, tile)
        for row in range(0, height - PATCH + 1, PATCH):
            for column in range(0, width - PATCH + 1, PATCH):
                patches.append((tile, row, column))
                groups.append(Path(tile).stem)
                splits.append(split)
    return WhuOptSar(root, tuple(patches), tuple(groups), tuple(splits))


def _size(root: Path, tile: str) -> tuple[int, int]:
    sizes = {}
    for name in FOLDERS:
        if not (root / name / tile).is_file():
            raise InputError(f"{root / name} has no {tile}, which lbl has")
        sizes[name] = raster_size(root / name / tile)
    if len(set(sizes.values())) > 1:
        raise InputError(f"the images of tile {tile} have the sizes {sizes}, expected one size")
    return sizes["lbl"]


def _listed(root: Path, tiles: list[str]) -> dict[str, str]:
    home: dict[str, str] = {}
    for split in SPLITS:
        file = root / f"{split}.txt"
        for line in file.read_text(encoding="utf-8").split() if file.is_file() else ():
            tile = line if line.endswith(".tif") else f"{line}.tif"
            if tile not in tiles:
                raise InputError(f"{file} names {line}, expected a tile in {root / 'lbl'}")
            if home.setdefault(tile, split) != split:
                raise InputError(f"tile {line} is in the lists {home[tile]} and {split}")
    return home


def _dealt(tiles: list[str]) -> dict[str, str]:
    home = {tile: "train" for tile in tiles}
    for number, tile in enumerate(tiles):
        if number % TEST_EVERY == TEST_EVERY - 1:
            home[tile] = "test"
    learned = [tile for tile in tiles if home[tile] == "train"]
    for number, tile in enumerate(learned):
        if number % VAL_EVERY == VAL_EVERY - 1:
            home[tile] = "val"
    return home
