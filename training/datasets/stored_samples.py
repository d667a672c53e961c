"""Samples as files with an index: what calibration, evaluation and training read."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esccs_edge.contracts.types import Array
from esccs_edge.system.atomic import write_atomic

INDEX_NAME = "index.csv"


@dataclass(frozen=True)
class StoredSample:
    """One sample that is to be written.

    Attributes:
        name: Its files begin with it.
        pixels: Modality -> stored pixels, or None where the modality is absent.
        target: Class name, or a map of classes.
        group: Place, scene or event.
        split: ``"train"``, ``"val"`` or ``"test"``.
        cover: Share of the sample under cloud, in [0, 1]; None where not known.
        simulated: What of the sample was simulated, such as ``"sar"`` and ``"clouds"``.
    """

    name: str
    pixels: Mapping[str, Array | None]
    target: str | Array
    group: str
    split: str
    cover: float | None = None
    simulated: tuple[str, ...] = ()


def write_samples(folder: Path, modalities: Sequence[str], samples: Iterable[StoredSample]) -> Path:
    """Write samples as ``.npy`` files and an index; replaces an earlier folder.

    The index has a column per modality, then ``label``, ``group``, ``split`` and ``cover``, then
    ``target`` with the file of the map where samples have maps, and ``simulated`` where any are.

    Returns:
        The index file, written last.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows, has_maps, is_simulated = [], False, False
    for sample in samples:
        cells = {m: _saved(folder, f"{sample.name}-{m}", sample.pixels[m]) for m in modalities}
        cover = "" if sample.cover is None else repr(float(sample.cover))
        cells |= {"label": "", "group": sample.group, "split": sample.split, "cover": cover}
        if isinstance(sample.target, str):
            cells["label"] = sample.target
        else:
            cells["target"] = _saved(folder, f"{sample.name}-target", sample.target)
            has_maps = True
        if sample.simulated:
            cells["simulated"] = " ".join(sample.simulated)
            is_simulated = True
        rows.append(cells)
    also = [*["target"] * has_maps, *["simulated"] * is_simulated]
    columns = [*modalities, "label", "group", "split", "cover", *also]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(folder / INDEX_NAME, text.getvalue())
    return folder / INDEX_NAME


def _saved(folder: Path, stem: str, values: Array | None) -> str:
    """Write an array and return its file name; empty where there is none."""
    if values is None:
        return ""
    np.save(folder / f"{stem}.npy", values)
    return f"{stem}.npy"
