"""The work list: which pairs of rasters an archive consists of.

It comes as a STAC ItemCollection (`esccs_edge.archive.stac`) or as a parquet table of paths
(`esccs_edge.archive.path_table`). Paths are relative to the list; no raster is opened here.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class ArchiveScene:
    """One scene of the list.

    Attributes:
        id: Name of the scene, once in a list.
        optical: Optical raster, or None.
        sar: SAR raster, or None.
        problem: Why the list's entry cannot be classified; empty if it can be tried.
    """

    id: str
    optical: Path | None
    sar: Path | None
    problem: str = ""

    def to_json(self) -> str:
        """Return the JSON text."""
        paths = [None if path is None else str(path) for path in (self.optical, self.sar)]
        return json.dumps([self.id, *paths, self.problem])

    @classmethod
    def from_json(cls, text: str) -> ArchiveScene:
        """Parse what `to_json` wrote."""
        name, optical, sar, problem = json.loads(text)
        return cls(name, optical and Path(optical), sar and Path(sar), problem)


def read_scene_list(path: PathLike) -> list[ArchiveScene]:
    """Read a list of scenes; its suffix tells the form.

    An entry that names no usable pair stays in the list with its `ArchiveScene.problem`, so that
    it is reported like any other scene that fails.

    Args:
        path: ``.json`` or ``.geojson``: a STAC ItemCollection; ``.parquet``: a table of paths.

    Raises:
        InputError: The list as a whole cannot be read, is empty, or names a scene twice.
        MissingDependencyError: A parquet table, and pyarrow is not installed.
    """
    file = Path(os.path.abspath(path))
    suffix = file.suffix.lower()
    if suffix in (".json", ".geojson"):
        from .stac import scenes_of_collection

        scenes = scenes_of_collection(file)
    elif suffix == ".parquet":
        from .path_table import scenes_of_table

        scenes = scenes_of_table(file)
    else:
        raise InputError(
            f"catalog is {file.name!r}, expected a name ending in .json, .geojson or .parquet"
        )
    if not scenes:
        raise InputError(f"{file} lists no scenes, expected at least one")
    (name, times), *_ = Counter(scene.id for scene in scenes).most_common(1)
    if times > 1:
        raise InputError(
            f"{file} has {times} scenes with the id {name!r}, expected each id once",
            hint="Results are kept by id; give each scene one of its own",
        )
    return scenes
