"""OMBRIA pixel by pixel: the flood mask of every real Sentinel-1 + Sentinel-2 picture.

See `ombria` for what the pictures are, and for what may be done with them: research only, no
weights trained on them may be shipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from esccs_edge.errors import InputError, RasterError

from .map_dataset import MapSample, MemoryMaps
from .ombria import (
    ARCHIVE,
    CLASSES,
    OPTICAL_CHANNELS,
    SAR_CHANNELS,
    PictureName,
    judged_floods,
    read_pictures,
)
from .splits import split_with_one_test_set


def open_ombria_maps(folder: str | Path, seed: int = 0) -> MemoryMaps:
    """Read all pictures; a pixel is flooded or dry.

    Judged are the floods that the chips of `ombria` are judged on, whatever the seed.

    Args:
        folder: Folder with ``pairs.tar``.
        seed: Of the division of the other floods into training and validation.

    Raises:
        InputError: ``pairs.tar`` is missing.
        RasterError: A picture is missing or has the wrong shape.
        MissingDependencyError: rasterio is not installed.
    """
    archive = Path(folder).resolve() / ARCHIVE
    if not archive.is_file():
        raise InputError(f"no {ARCHIVE} in {folder}", hint="Give the folder of the OMBRIA set")
    samples: list[MapSample] = []
    names: list[PictureName] = []
    for name, picture in sorted(read_pictures(archive).items()):
        if missing := {"optical", "sar", "mask"} - picture.keys():
            raise RasterError(f"{archive} lacks {sorted(missing)} of picture {name}")
        target = (picture["mask"][0] > 0).astype(np.uint8)
        samples.append(MapSample(picture["optical"], picture["sar"], target))
        names.append(name)
    groups = tuple(name.group for name in names)
    flooded = np.array([sample.target.mean() for sample in samples])
    strata = np.digitize(flooded, np.quantile(flooded, (1 / 3, 2 / 3)))
    splits = split_with_one_test_set(
        strata.astype(np.int64), groups, seed, judged=judged_floods(names), every_class=False
    )
    return MemoryMaps(
        name="OMBRIA", classes=CLASSES, groups=groups, splits=splits,
        optical_channels=OPTICAL_CHANNELS, sar_channels=SAR_CHANNELS, samples=tuple(samples),
    )  # fmt: skip
