"""The ``index.csv`` data set: files with labels, read by training, calibration and evaluation.

One line per sample: ``optical,sar,label,group,split[,cover][,target][,simulated]``, paths relative
to the file. A map of classes may stand in a column ``mask`` instead of ``target``, and then
``label`` may be left out; ``clear`` and ``cloud_mask`` name further images of a sample.
A model of other modalities has a column per modality in place of the first two.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contracts.modality import Modalities
from ..contracts.types import Array, PathLike
from ..contracts.values import NODATA
from ..errors import InputError
from ..system.atomic import write_atomic
from ..system.regular_file import read_regular
from .label_map import NO_LABEL, read_label_map
from .reader import no_file_of, read_sample

#: The modalities of an index unless the caller names others.
PAIR = ("optical", "sar")
#: Columns that follow the modalities.
ABOUT = ("label", "group", "split")
COLUMNS = (*PAIR, *ABOUT)
#: Ten million lines and more.
MAX_INDEX_BYTES = 1 << 30
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SampleRow:
    """One sample of a data set.

    Attributes:
        paths: Modality name -> file, or None where the modality is absent.
        label: Class name, or None where it is not known.
        group: Samples that a split keeps together, such as those of one place or one image.
        split: ``"train"``, ``"val"`` or ``"test"``.
        cover: Share of the optical patch under cloud, in [0, 1], or None where not known.
        target: Map of the class of every pixel, or None where there is none.
        simulated: What of the sample is not real, such as ``"sar"`` or ``"clouds"``.
        clear: The optical image of the place on another day, without clouds, or None.
        cloud_mask: Where the optical image shows cloud, or None where not known.
    """

    paths: Mapping[str, Path | None]
    label: str | None
    group: str
    split: str
    cover: float | None = None
    target: Path | None = None
    simulated: tuple[str, ...] = ()
    clear: Path | None = None
    cloud_mask: Path | None = None

    @property
    def image(self) -> Path:
        """The first of its files."""
        return next(path for path in self.paths.values() if path is not None)


@dataclass(frozen=True)
class PairIndex:
    """A data set: class names and rows.

    Attributes:
        folder: Folder of the index file.
        classes: Class names, in the order of the model's logits.
        rows: The samples, in the order of the file.
    """

    folder: Path
    classes: tuple[str, ...]
    rows: tuple[SampleRow, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def load(
        self, i: int, modalities: Modalities, pixel_size_m: float | None = None
    ) -> dict[str, Array | None]:
        """Read the pixels of sample ``i``; see `esccs_edge.rasters.reader.read_sample`."""
        return read_sample(self.rows[i].paths, modalities, pixel_size_m)

    def load_target(self, i: int) -> npt.NDArray[np.int32] | None:
        """Read the class map of sample ``i``; None where it has none.

        Returns:
            ``(H, W)``; see `esccs_edge.rasters.label_map.read_label_map`. 255 is no class either.

        Raises:
            InputError: The map holds a number beyond the class list.
            RasterError: The file cannot be read, or lies elsewhere than the images.
        """
        target = self.rows[i].target
        if target is None:
            return None
        labels = read_label_map(target, self.rows[i].image)
        labels[labels == NODATA] = NO_LABEL
        if (highest := int(labels.max(initial=-1))) >= len(self.classes):
            raise InputError(
                f"{target} holds class {highest}, expected 0 to {len(self.classes) - 1}",
                hint="Numbers are positions in the class list; mark other pixels as nodata",
            )
        return labels


def read_index(
    path: PathLike,
    classes: Sequence[str] | None = None,
    modalities: Sequence[str] = PAIR,
    missing: list[str] | None = None,
) -> PairIndex:
    """Read an index file. The files it lists must exist; they are not opened.

    Args:
        path: UTF-8 CSV with a header that names at least the modalities and `ABOUT`; of other
            columns ``cover``, ``target`` or ``mask``, ``simulated`` (words), ``clear`` and
            ``cloud_mask`` are read. Empty cells: an absent modality, an unknown label, ``"train"``,
            a group of its own, an unknown cover, no target, nothing simulated, no such image.
        classes: Class names to expect; None takes the labels of the file, sorted.
        modalities: Columns of files to read.
        missing: Takes a sentence for each file that does not exist, in place of an error; its row
            is left out.

    Raises:
        InputError: Not readable as such; the message names the line.
    """
    file = Path(path)
    rows = []
    reader = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    try:
        header = _header(next(reader, []), modalities, file)
        for cells in reader:
            if cells:
                where = f"{file}, line {reader.line_num}"
                try:
                    rows.append(_row(header, cells, modalities, file.parent, where))
                except _MissingFileError as error:
                    if missing is None:
                        raise
                    missing.append(error.message)
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: {error}") from error
    if not rows and not missing:
        raise InputError(f"{file} lists no pairs, expected at least one line below the header")
    return PairIndex(file.parent, _classes(rows, classes, file), tuple(rows))


class _MissingFileError(InputError):
    """A row names a file that does not exist."""


def write_index(path: PathLike, rows: Iterable[SampleRow]) -> None:
    """Write an index file atomically; paths are stored relative to it.

    Modalities are those of the first row. The columns ``cover``, ``target`` and ``simulated`` are
    written when any row has one.

    Raises:
        InputError: A row names no file or other modalities, or an unknown split.
    """
    file, rows = Path(path), list(rows)
    modalities = list(rows[0].paths) if rows else list(PAIR)
    extra = [
        name
        for name in ("cover", "target", "simulated")
        if any(getattr(row, name) not in (None, ()) for row in rows)
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*modalities, *ABOUT, *extra])
    for number, row in enumerate(rows):
        _require_usable(row.paths, modalities, row.split, f"row {number}")
        also = {
            "cover": "" if row.cover is None else repr(float(row.cover)),
            "target": _relative(row.target, file),
            "simulated": " ".join(row.simulated),
        }
        files = [_relative(row.paths[name], file) for name in modalities]
        writer.writerow(
            [*files, row.label or "", row.group, row.split, *(also[name] for name in extra)]
        )
    write_atomic(file, text.getvalue())


def _text(file: Path) -> str:
    try:
        return read_regular(file, MAX_INDEX_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror}", hint="Give the path of an index.csv"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file} is not UTF-8 text: {error}",
            hint="Give an index.csv: text with commas, saved as UTF-8",
        ) from None


def _header(cells: list[str], modalities: Sequence[str], file: Path) -> list[str]:
    header = [cell.strip() for cell in cells]
    maps = {"target", "mask"}.intersection(header)
    if len(maps) == 2:
        raise InputError(
            f"{file}, line 1 has both target and mask, expected one: the map of classes",
            hint="Call a column that says where cloud is cloud_mask",
        )
    expected = [*modalities, *(name for name in ABOUT if name != "label" or not maps)]
    missing = [column for column in expected if column not in header]
    if missing or len(set(header)) != len(header):
        raise InputError(
            f"{file}, line 1 has columns {header}, expected {', '.join(expected)} once each",
            hint=_header_hint(header, missing),
        )
    return header


def _header_hint(header: list[str], missing: list[str]) -> str:
    for mark, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and mark in header[0]:
            return f"Columns are separated by {word} here: use commas"
    if missing and set(missing) <= {name.lower() for name in header}:
        return f"Write {', '.join(missing)} in small letters"
    return f"Add {', '.join(missing)}; cells may be empty" if missing else ""


def _row(
    header: list[str], cells: list[str], modalities: Sequence[str], folder: Path, where: str
) -> SampleRow:
    if len(cells) != len(header):
        raise InputError(f"{where} has {len(cells)} cells, expected {len(header)}")
    cell = dict(zip(header, (text.strip() for text in cells), strict=True))
    paths = {name: _existing(cell[name], folder, where) for name in modalities}
    split = cell["split"] or "train"
    _require_usable(paths, modalities, split, where)
    return SampleRow(
        paths,
        label=cell.get("label") or None,
        group=cell["group"] or where.rpartition(", ")[2],
        split=split,
        cover=_cover(cell.get("cover", ""), where),
        target=_existing(cell.get("target", cell.get("mask", "")), folder, where),
        simulated=tuple(cell.get("simulated", "").split()),
        clear=_existing(cell.get("clear", ""), folder, where),
        cloud_mask=_existing(cell.get("cloud_mask", ""), folder, where),
    )


def _existing(text: str, folder: Path, where: str) -> Path | None:
    if not text:
        return None
    path = folder / text
    if not os.path.isfile(path):
        raise _MissingFileError(
            f"{where} names {text!r}, but {path} is not an existing file",
            hint="Write / between folders; paths are relative to the folder of the index"
            if "\\" in text
            else "Paths are relative to the folder of the index",
        )
    return path


def _require_usable(
    paths: Mapping[str, Path | None], modalities: Sequence[str], split: str, where: str
) -> None:
    if set(paths) != set(modalities):
        raise InputError(f"{where} has {', '.join(paths)}, expected {', '.join(modalities)}")
    if not any(paths.values()):
        raise InputError(f"{where} names {no_file_of(modalities)}, expected at least one")
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


def _classes(rows: list[SampleRow], classes: Sequence[str] | None, file: Path) -> tuple[str, ...]:
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
