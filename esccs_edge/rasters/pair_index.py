"""The ``index.csv`` data set: pairs of files with labels, the form every room can read and write.

One line per pair: ``optical,sar,label,group,split[,cover]``, paths relative to the file. Training,
calibration and evaluation start from it.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..contracts.modality import ModalitySpec
from ..errors import InputError
from ..system.atomic import write_atomic
from .reader import read_pair

COLUMNS = ("optical", "sar", "label", "group", "split")
SPLITS = ("train", "val", "test")

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class PairRow:
    """One pair of a data set.

    Attributes:
        optical: Optical file, or None.
        sar: SAR file, or None.
        label: Class name, or None where it is not known.
        group: Pairs that must not be torn apart by a split, such as one place or one image.
        split: ``"train"``, ``"val"`` or ``"test"``.
        cover: Share of the optical patch under cloud, in [0, 1], or None where not known.
    """

    optical: Path | None
    sar: Path | None
    label: str | None
    group: str
    split: str
    cover: float | None = None


@dataclass(frozen=True)
class PairIndex:
    """A data set: class names and rows.

    Attributes:
        folder: Folder of the index file.
        classes: Class names, in the order of the model's logits.
        rows: The pairs, in the order of the file.
    """

    folder: Path
    classes: tuple[str, ...]
    rows: tuple[PairRow, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def load(
        self, i: int, optical: ModalitySpec, sar: ModalitySpec
    ) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
        """Read the pixels of pair ``i``; see `esccs_edge.rasters.reader.read_pair`."""
        row = self.rows[i]
        return read_pair(row.optical, row.sar, optical, sar)


def read_index(path: PathLike, classes: Sequence[str] | None = None) -> PairIndex:
    """Read an index file. The pixel files must exist; they are not opened.

    Args:
        path: UTF-8 CSV with a header that names at least `COLUMNS`; other columns are ignored.
            Empty cells: an absent modality, an unknown label, ``"train"``, a group of its own,
            an unknown cover.
        classes: Class names to expect; None takes the labels of the file, sorted.

    Raises:
        InputError: Not readable as such; the message names the line.
    """
    file = Path(path)
    rows = []
    reader = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    try:
        header = _header(next(reader, []), file)
        for cells in reader:
            if cells:
                rows.append(_row(header, cells, file.parent, f"{file}, line {reader.line_num}"))
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: {error}") from error
    if not rows:
        raise InputError(f"{file} lists no pairs, expected at least one line below the header")
    return PairIndex(file.parent, _classes(rows, classes, file), tuple(rows))


def write_index(path: PathLike, rows: Iterable[PairRow]) -> None:
    """Write an index file atomically; paths are stored relative to it.

    The column ``cover`` is written when any row has a cover.

    Raises:
        InputError: A row names neither modality, or an unknown split.
    """
    file, rows = Path(path), list(rows)
    has_cover = any(row.cover is not None for row in rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, "cover") if has_cover else COLUMNS)
    for number, row in enumerate(rows):
        _require_usable(row.optical or row.sar, row.split, f"row {number}")
        cells = [_relative(row.optical, file), _relative(row.sar, file),
                 row.label or "", row.group, row.split]  # fmt: skip
        if has_cover:
            cells.append("" if row.cover is None else repr(float(row.cover)))
        writer.writerow(cells)
    write_atomic(file, text.getvalue())


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror}", hint="Give the path of an index.csv"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: {error}") from None


def _header(cells: list[str], file: Path) -> list[str]:
    header = [cell.strip() for cell in cells]
    missing = [column for column in COLUMNS if column not in header]
    if missing or len(set(header)) != len(header):
        raise InputError(
            f"{file}, line 1 has columns {header}, expected {', '.join(COLUMNS)} once each",
            hint=f"Add {', '.join(missing)}; cells may be empty" if missing else "",
        )
    return header


def _row(header: list[str], cells: list[str], folder: Path, where: str) -> PairRow:
    if len(cells) != len(header):
        raise InputError(f"{where} has {len(cells)} cells, expected {len(header)}")
    cell = dict(zip(header, (text.strip() for text in cells), strict=True))
    optical, sar = (_existing(cell[name], folder, where) for name in ("optical", "sar"))
    split = cell["split"] or "train"
    _require_usable(optical or sar, split, where)
    return PairRow(
        optical,
        sar,
        cell["label"] or None,
        cell["group"] or where.rpartition(", ")[2],
        split,
        _cover(cell.get("cover", ""), where),
    )


def _existing(text: str, folder: Path, where: str) -> Path | None:
    if not text:
        return None
    path = folder / text
    if not os.path.isfile(path):
        raise InputError(f"{where} names {text!r}, but {path} is not an existing file")
    return path


def _require_usable(any_file: Path | None, split: str, where: str) -> None:
    if any_file is None:
        raise InputError(f"{where} names neither an optical nor a SAR file, expected at least one")
    if split not in SPLITS:
        raise InputError(f"{where} has split {split!r}, expected one of {', '.join(SPLITS)}")


def _cover(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        cover = float(text)
    except ValueError:
        cover = float("nan")
    if not 0 <= cover <= 1:
        raise InputError(f"{where} has cover {text!r}, expected a number from 0 to 1")
    return cover


def _classes(rows: list[PairRow], classes: Sequence[str] | None, file: Path) -> tuple[str, ...]:
    labels = {row.label for row in rows if row.label is not None}
    if classes is None:
        return tuple(sorted(labels))
    if unknown := sorted(labels.difference(classes)):
        raise InputError(
            f"{file} has labels {unknown} that the model does not know, expected among "
            f"{list(classes)}"
        )
    return tuple(classes)


def _relative(path: Path | None, index: Path) -> str:
    if path is None:
        return ""
    return Path(os.path.relpath(path, index.parent)).as_posix()
