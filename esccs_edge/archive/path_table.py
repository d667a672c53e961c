"""A parquet table of paths as a work list: columns ``optical`` and ``sar``, perhaps ``id``.

An empty or null cell is an absent modality; at least one column is there. Without an id a scene is
called by its path as the table spells it, without the suffix. Other columns are ignored.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from ..errors import InputError, MissingDependencyError
from ..system.regular_file import require_regular
from .scene import ArchiveScene

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingDependencyError.for_extra(
        "pyarrow", "scale", "Reading a parquet list", error
    ) from error

COLUMNS = ("id", "optical", "sar")


def scenes_of_table(file: Path) -> list[ArchiveScene]:
    """Return the scenes of a table, in its order.

    Raises:
        InputError: Not a parquet file with text columns of these names.
    """
    columns = _columns(file)
    count = len(next(iter(columns.values())))
    ids, opticals, sars = (columns.get(name, [None] * count) for name in COLUMNS)
    rows = enumerate(zip(ids, opticals, sars, strict=True))
    return [_scene(i, name, optical, sar, file.parent) for i, (name, optical, sar) in rows]


def _columns(file: Path) -> dict[str, list[str | None]]:
    try:
        require_regular(file)
        with pq.ParquetFile(file) as table:
            names = [name for name in COLUMNS if name in table.schema_arrow.names]
            found = table.read(columns=names)
    except (OSError, pa.ArrowException, ValueError) as error:  # the last: text that is no UTF-8
        raise InputError(f"cannot read {file} as a parquet table: {error}") from error
    if names in ([], ["id"]):
        raise InputError(f"{file} has neither a column 'optical' nor 'sar', expected at least one")
    return {name: _texts(found[name], f"{file}, column {name!r}") for name in names}


def _texts(column: Any, where: str) -> list[str | None]:
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise InputError(f"{where} holds {kind}, expected text")
    try:
        return [text or None for text in column.to_pylist()]
    except UnicodeDecodeError as error:
        raise InputError(f"{where} holds text that is not UTF-8: {error}") from error


def _scene(
    i: int, name: str | None, optical: str | None, sar: str | None, folder: Path
) -> ArchiveScene:
    given = optical or sar
    if given is None:
        return ArchiveScene(name or f"row {i}", None, None, "the row names neither raster")
    return ArchiveScene(
        name or PurePath(given).with_suffix("").as_posix(),
        None if optical is None else folder / optical,
        None if sar is None else folder / sar,
    )
