"""The work list: which pairs of rasters an archive consists of.

It comes as a STAC ItemCollection (`esccs_edge.archive.stac`), as a parquet table of paths
(`esccs_edge.archive.path_table`) or from a STAC API (`esccs_edge.archive.search`). Paths are
relative to the list; no raster is opened here.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from ..contracts.types import PathLike
from ..errors import InputError
from .scene import ArchiveScene


def read_scene_list(path: PathLike, *, remote: bool = False) -> list[ArchiveScene]:
    """Read a list of scenes; its suffix decides the form.

    An entry that names no usable pair stays in the list with its `ArchiveScene.problem`, so that
    it is reported like any other scene that fails.

    Args:
        path: ``.json`` or ``.geojson``: a STAC ItemCollection; ``.parquet``: a table of paths; an
            ``http:`` or ``https:`` address: a search of a STAC API.
        remote: Whether an address may be asked.

    Raises:
        InputError: The list as a whole cannot be read, is empty, or names a scene twice.
        MissingDependencyError: A parquet table, and pyarrow is not installed; a search, and
            pystac-client is not.
    """
    if str(path).startswith(("http://", "https://")):
        return _listed_once(_searched(str(path), remote), str(path))
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
    return _listed_once(scenes, str(file))


def _searched(address: str, remote: bool) -> list[ArchiveScene]:
    if not remote:
        raise InputError(
            f"catalog is the address {address}, expected a file",
            hint="Pass --remote to allow a search of a STAC API",
        )
    from .search import scenes_of_search

    return scenes_of_search(address)


def _listed_once(scenes: list[ArchiveScene], file: str) -> list[ArchiveScene]:
    if not scenes:
        raise InputError(f"{file} lists no scenes, expected at least one")
    (name, times), *_ = Counter(scene.id for scene in scenes).most_common(1)
    if times > 1:
        raise InputError(
            f"{file} has {times} scenes with the id {name!r}, expected each id once",
            hint="Results are kept by id; give each scene one of its own",
        )
    return scenes
