"""Files that appear under their final name only when complete."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .working_folder import working_folder

#: Numbers of errors that say that a disk, or what this user may have of it, is full.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path that becomes ``target`` on success and vanishes on failure.

    It has the target's name, since some writers choose the format by it, and lies in a
    `working_folder`, so that what a killed process leaves is removed by the next. The data is
    flushed to disk before the rename, so a crash leaves the old file or the new one, never half.

    Raises:
        OSError: It cannot be written; of a full disk with the folder in its text.
    """
    final = Path(target)
    with naming_full_disk(final.parent), _made(final) as folder:
        partial = folder / final.name
        yield partial
        with open(partial, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(partial, final)
        sync_folder(final.parent)


def write_atomic(target: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a whole file atomically; text is encoded as UTF-8."""
    data = content.encode() if isinstance(content, str) else content
    with naming_full_disk(Path(target).parent, len(data)), atomic_path(target) as partial:
        partial.write_bytes(data)


@contextmanager
def naming_full_disk(folder: Path, needed: int = 0) -> Iterator[None]:
    """Say of a full disk which folder was written to, which the system does not.

    Args:
        folder: Where the block writes.
        needed: Bytes that it writes, where that is known.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        size = f": {max(1, round(needed / 1e6))} MB are needed" if needed else ""
        raise OSError(error.errno, f"no space left in {folder}{size}") from error


@contextmanager
def _made(final: Path) -> Iterator[Path]:
    final.parent.mkdir(parents=True, exist_ok=True)
    with working_folder(final) as folder:
        yield folder


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
