"""Files that appear under their final name only when complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside ``target`` that becomes ``target`` on success and vanishes on failure.

    The temporary keeps the suffix, since some writers choose the format by it. The data is
    flushed to disk before the rename, so a crash leaves the old file or the new one, never half.
    """
    final = Path(target)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.stem}-{secrets.token_hex(6)}.partial{final.suffix}")
    try:
        yield partial
        with open(partial, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(partial, final)
        _sync_folder(final.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(target: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a whole file atomically; text is encoded as UTF-8."""
    with atomic_path(target) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
