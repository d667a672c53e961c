"""Data sets: one reader per layout, all behind `PairDataset`."""

from __future__ import annotations

from pathlib import Path

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.errors import InputError

from .dataset import SPLITS, MemoryDataset, PairDataset, RawPair, indices_of
from .forms import form_hint

__all__ = ["SPLITS", "MemoryDataset", "PairDataset", "RawPair", "indices_of", "open_dataset"]

_FORMS = (
    "eurosat:FOLDER, eurosat-sar:FOLDER, ombria:FOLDER, sen12ms:FOLDER, sen12ms-cr:PATH, "
    "bigearthnet:FOLDER, so2sat:FOLDER or the path of an index.csv"
)


def open_dataset(
    where: str | Path,
    seed: int = 0,
    manifest: Manifest | None = None,
    pixel_size_m: float | None = None,
) -> PairDataset:
    """Open a data set by its kind and place.

    Args:
        where: ``"eurosat:FOLDER"``, ``"eurosat-sar:FOLDER"``, ``"ombria:FOLDER"``,
            ``"sen12ms:FOLDER"`` (with ``@purity=0.7`` behind it only patches of which the class
            covers as much), ``"sen12ms-cr:PATH"`` (chips of real triplets),
            ``"bigearthnet:FOLDER"``, ``"so2sat:FOLDER"`` or the path of an ``index.csv``.
        seed: Seed of the split by place where the data set brings none.
        manifest: Contract of the model that will read the pairs; files of an index are then in
            its band order unless they describe their bands.
        pixel_size_m: Ground size of a pixel that files of an index are to have; None takes that of
            the model, or any.

    Raises:
        InputError: Neither a known kind nor an existing CSV file.
    """
    kind, _, folder = str(where).partition(":")
    if folder and kind == "eurosat":
        from .eurosat import open_eurosat

        return open_eurosat(folder, seed)
    if folder and kind == "eurosat-sar":
        from .eurosat_sar import open_eurosat_sar

        return open_eurosat_sar(folder, seed)
    if folder and kind == "bigearthnet":
        from .bigearthnet import open_bigearthnet

        return open_bigearthnet(folder, seed)
    if folder and kind == "so2sat":
        from .so2sat import open_so2sat

        return open_so2sat(folder)
    if folder and kind == "ombria":
        from .ombria import open_ombria

        return open_ombria(folder, seed)
    if folder and kind == "sen12ms":
        from .sen12ms import open_sen12ms

        place, _, purity = folder.partition("@purity=")
        return open_sen12ms(place, seed, _share(purity) if purity else 0.0)
    if folder and kind == "sen12ms-cr":
        from .sen12ms_cr import open_sen12ms_cr
        from .triplets import Chips

        return Chips(open_sen12ms_cr(folder))
    if str(where).endswith(".csv") and Path(where).is_file():
        from .index import IndexDataset

        return IndexDataset.open(where, manifest, pixel_size_m)
    if str(where).endswith(".csv"):
        raise InputError(f"there is no file {where}", hint="Look at the path, or make the index")
    raise InputError(f"data set is {str(where)!r}, expected {_FORMS}", hint=form_hint(where))


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"purity is {text!r}, expected a share from 0 to 1")
    return share
