"""SEN12MS: folders of real Sentinel-1 + Sentinel-2 patches, with scene labels from text files.

Layout and names as published (Schmitt et al., 2019)::

    ROIs1158_spring/{s1,s2,lc}_<scene>/ROIs1158_spring_s2_<scene>_p<patch>.tif

The partner of a patch has ``s1`` for ``s2`` in folder and file name. Sentinel-2 is L1C with 13
bands in sensor order, Sentinel-1 is VV, VH in dB. Labels and splits are those of Schmitt & Wu
(2021); their license allows research and education only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.sensors import SENTINEL1_POLARIZATIONS, SENTINEL2_L1C_BANDS
from esccs_edge.errors import InputError

from .dataset import RawPair
from .index import reading_spec
from .sen12ms_labels import IGBP_SIMPLE, read_labels
from .splits import split_by_group, split_with_one_test_set

#: Its Sentinel-1 patch holds NaN.
BROKEN = re.compile(r"ROIs1868_summer_s[12]_146_p202")
_PATCH = re.compile(r"(?P<season>ROIs\d+_[a-z]+)_s[12]_(?P<scene>\d+)_p(?P<patch>\d+)(\.tif)?")
_SCENE = re.compile(r"(?P<season>ROIs\d+_[a-z]+)/s[12]_(?P<scene>\d+)")
VAL_SHARE = 0.15


@dataclass(frozen=True)
class Sen12msDataset:
    """A `PairDataset` over a SEN12MS folder; pixels are read when asked for."""

    name: str
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    paths: tuple[Path, ...]
    optical_channels: tuple[str, ...] = SENTINEL2_L1C_BANDS
    sar_channels: tuple[str, ...] = SENTINEL1_POLARIZATIONS

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def covers(self) -> npt.NDArray[np.float64]:
        """Not known."""
        return np.full(len(self), np.nan)

    def pair(self, index: int) -> RawPair:
        """Read one pair: ``(13, 256, 256)`` uint16 and ``(2, 256, 256)`` float32 dB.

        Raises:
            RasterError: A file cannot be read or the partner does not match.
        """
        from esccs_edge.rasters.reader import read_sample

        path = self.paths[index]
        specs = {
            "optical": reading_spec(self.optical_channels),
            "sar": reading_spec(self.sar_channels),
        }
        optical, sar = read_sample({"optical": path, "sar": sar_partner(path)}, specs).values()
        return optical, sar


def open_sen12ms(folder: str | Path, seed: int = 0, purity: float = 0.0) -> Sen12msDataset:
    """List the labeled Sentinel-2 patches of a folder whose Sentinel-1 partner exists.

    Label and split files are looked for in the folder itself, in ``labels/`` and in ``splits/``.
    Held-out scenes (``SEN12MS_holdOutScenes.txt``, else ``test_list.txt``) are the test split and
    ``ValidationScenes.txt`` the validation split. Without a list, scenes are dealt out by seed.

    Args:
        folder: Folder of the set.
        seed: Seed of the split.
        purity: Least share of a patch that its class must cover.

    Raises:
        InputError: No labeled pair, no label file, or one without the fractions that purity needs.
    """
    root = Path(folder)
    known = read_labels(root, purity)
    found = {_patch_key(path.name): path for path in sorted(root.glob("ROIs*/s2_*/*_s2_*_p*.tif"))}
    keys = [
        key
        for key, path in found.items()
        if key in known and not BROKEN.search(path.name) and sar_partner(path).is_file()
    ]
    if not keys:
        raise InputError(
            f"{root} has {len(found)} Sentinel-2 patches but none with a label and a partner",
            hint="Expected ROIs*/s2_<scene>/*.tif beside s1_<scene>, and the label file",
        )
    labels = np.array([known[key] for key in keys], np.int64)
    groups = tuple(key.rpartition("/")[0] for key in keys)
    return Sen12msDataset(
        "SEN12MS", IGBP_SIMPLE, labels, groups, _splits(root, labels, groups, seed),
        tuple(found[key] for key in keys),
    )  # fmt: skip


def sar_partner(optical: Path) -> Path:
    """Return the Sentinel-1 path that belongs to a Sentinel-2 path."""
    folder = optical.parent.parent / optical.parent.name.replace("s2_", "s1_", 1)
    return folder / optical.name.replace("_s2_", "_s1_", 1)


def _patch_key(name: str) -> str:
    """``ROIs1158_spring_s2_1_p30.tif`` -> ``ROIs1158_spring/1/30``; sensor left out."""
    match = _PATCH.search(name)
    if match is None:
        raise InputError(f"{name!r} is not a SEN12MS patch name, expected ROIs*_s2_<n>_p<n>.tif")
    return f"{match['season']}/{match['scene']}/{match['patch']}"


def _splits(
    root: Path, labels: npt.NDArray[np.int64], groups: tuple[str, ...], seed: int
) -> tuple[str, ...]:
    held_out = _listed_scenes(root, ("SEN12MS_holdOutScenes.txt", "test_list.txt"))
    if not held_out:
        return split_with_one_test_set(labels, groups, seed, every_class=False)
    validation = _listed_scenes(root, ("ValidationScenes.txt",)) - held_out
    if not validation:
        rest = np.array([group not in held_out for group in groups])
        kept = [group for group in groups if group not in held_out]
        shares = (1.0 - VAL_SHARE, VAL_SHARE, 0.0)
        dealt = split_by_group(labels[rest], kept, seed, shares, every_class=False)
        validation = {group for group, split in zip(kept, dealt, strict=True) if split == "val"}
    return tuple(
        "test" if group in held_out else "val" if group in validation else "train"
        for group in groups
    )


def _listed_scenes(root: Path, names: tuple[str, ...]) -> set[str]:
    """Scenes named, as folders or through their patches, by the first list that exists."""
    for name in names:
        for path in (root / name, root / "splits" / name):
            if path.is_file():
                text = path.read_text(encoding="utf-8")
                matches = [*_SCENE.finditer(text), *_PATCH.finditer(text)]
                return {f"{match['season']}/{match['scene']}" for match in matches}
    return set()
