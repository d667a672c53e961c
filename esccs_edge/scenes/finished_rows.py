"""Finished rows of a map that is being made, kept on disk so that a killed run can go on.

One file per row of patches, each whole or absent. A row is only used for the same inputs, model and
options; otherwise all are thrown away and the map is begun anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..contracts.npz_file import read_npz
from ..contracts.types import Bytes, PathLike
from ..errors import RasterError
from ..system.atomic import write_atomic
from ..system.file_lock import file_lock

_KEY = "key.json"
#: Raised when rows of an earlier version of this package would not fit.
_FORMAT = 2


class FinishedRow(NamedTuple):
    """The pixel rows that one row of patches completed.

    Attributes:
        classes: ``(rows, width)`` as written to the map.
        scores: ``(layers, rows, width)``, likewise.
        tally: State of the counts after this row; see `esccs_edge.scenes.summary.Tally.state`.
        refused: Patches refused up to here.
    """

    classes: Bytes
    scores: Bytes
    tally: npt.NDArray[np.float64]
    refused: int


class FinishedRows:
    """The rows of one map in a folder beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Iterator[FinishedRow]:
        """Yield the rows from the first on, up to the first that is missing or damaged."""
        for i in range(1 << 31):
            try:
                stored = read_npz(self._path(i), FinishedRow._fields)
                refused = int(stored.pop("refused"))
            except (ValueError, TypeError):
                return
            yield FinishedRow(**stored, refused=refused)

    def write(self, i: int, row: FinishedRow) -> None:
        """Keep the row of patches ``i``."""
        content = io.BytesIO()
        np.savez_compressed(content, **row._asdict())
        write_atomic(self._path(i), content.getvalue())

    def _path(self, i: int) -> Path:
        return self._folder / f"row-{i:06d}.npz"


@contextmanager
def finished_rows(
    class_map: PathLike, sources: Mapping[str, PathLike], parts: Sequence[Any]
) -> Iterator[FinishedRows]:
    """Open the rows that an earlier run of the same map left; a run that ends well removes them.

    Args:
        class_map: The map.
        sources: Modality name -> raster; told apart by path, size and time of change.
        parts: What else decides the result, as JSON.

    Raises:
        RasterError: Another process is making this map, or the folder cannot be written.
    """
    target = Path(class_map)
    folder = target.with_name(f".{target.stem}.rows")
    key = _key(sources, parts)
    with ExitStack() as held:
        try:
            folder.mkdir(exist_ok=True)
            is_free = held.enter_context(file_lock(folder))
            if is_free and not _matches(folder / _KEY, key):
                for path in folder.iterdir():
                    if path.is_dir():  # a file that a killed run was writing
                        shutil.rmtree(path)
                    else:
                        path.unlink()
                write_atomic(folder / _KEY, key)
        except OSError as error:
            raise RasterError(f"cannot keep rows in {folder}: {error.strerror or error}") from error
        if not is_free:
            raise RasterError(
                f"another process is making {target}", hint="Wait for it, or end it first"
            )
        yield FinishedRows(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _key(sources: Mapping[str, PathLike], parts: Sequence[Any]) -> str:
    files = {}
    for name, source in sources.items():
        path = Path(source).resolve()
        about = path.stat()
        files[name] = [str(path), about.st_size, about.st_mtime_ns]
    text = json.dumps([_FORMAT, files, list(parts)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _matches(path: Path, key: str) -> bool:
    try:
        return path.read_text() == key
    except OSError:
        return False
