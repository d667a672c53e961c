"""Data sets with the class of every pixel: one reader per layout, all behind `MapDataset`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.errors import InputError

from .forms import form_hint
from .map_dataset import MapDataset

_FORMS = (
    "ombria:FOLDER, m3m-cr:FOLDER, whu-opt-sar:FOLDER, terramesh:FOLDER, "
    "sen1floods11:FOLDER, simulated:SEED or the path of an index.csv with a column 'mask'"
)


def open_map_dataset(
    where: str | Path,
    seed: int = 0,
    classes: Sequence[str] = (),
    manifest: Manifest | None = None,
) -> MapDataset:
    """Open a data set with label maps by its kind and place.

    Args:
        where: ``"ombria:FOLDER"``, ``"m3m-cr:FOLDER"``, ``"whu-opt-sar:FOLDER"``,
            ``"terramesh:FOLDER"`` (judged on only), ``"sen1floods11:FOLDER"``,
            ``"simulated:SEED"`` or the path of an ``index.csv`` with a column ``mask``.
        seed: Seed of the split by place where the data set brings none.
        classes: Class names of an index, in the order of the numbers in its maps.
        manifest: Contract of the model that will read the pairs; names the classes of an index.

    Raises:
        InputError: Neither a known kind nor an existing CSV file.
    """
    kind, _, folder = str(where).partition(":")
    if folder and kind == "ombria":
        from .ombria_maps import open_ombria_maps

        return open_ombria_maps(folder, seed)
    if folder and kind == "m3m-cr":
        from .m3m_cr import open_m3m_cr

        return open_m3m_cr(folder)
    if folder and kind == "whu-opt-sar":
        from .whu_opt_sar import open_whu_opt_sar

        return open_whu_opt_sar(folder)
    if folder and kind == "terramesh":
        from .terramesh import open_terramesh

        return open_terramesh(folder)
    if folder and kind == "sen1floods11":
        from .sen1floods11 import open_sen1floods11

        return open_sen1floods11(folder, seed)
    if folder and kind == "simulated":
        from .simulated_maps import open_simulated_maps

        return open_simulated_maps(folder)
    if str(where).endswith(".csv") and Path(where).is_file():
        from .index_maps import IndexMaps

        names = manifest.classes if manifest is not None and not classes else tuple(classes)
        return IndexMaps.open(where, names, manifest)
    if str(where).endswith(".csv"):
        raise InputError(f"there is no file {where}", hint="Look at the path, or make the index")
    raise InputError(f"data set is {str(where)!r}, expected {_FORMS}", hint=form_hint(where))
