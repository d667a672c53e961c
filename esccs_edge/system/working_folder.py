"""A hidden folder beside a target, in which it is made; gone afterwards, whatever happened.

A killed process cannot clean up, so the next one that writes the same target does it.
"""

from __future__ import annotations

import glob
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .file_lock import HAS_LOCKS, file_lock

_SUFFIX = ".partial"
#: A folder is locked at once after it was made; one that is older and unlocked has no owner.
_GRACE_S = 60.0


@contextmanager
def working_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder on the target's file system and remove it with all it holds.

    Raises:
        OSError: The folder cannot be made.
    """
    prefix = f".{target.stem}-"
    _remove_ownerless(target.parent, prefix)
    with (
        tempfile.TemporaryDirectory(prefix=prefix, suffix=_SUFFIX, dir=target.parent) as name,
        ExitStack() as held,
    ):
        with suppress(OSError):  # a file system without locks; nothing is removed there either
            held.enter_context(file_lock(Path(name)))
        yield Path(name)


def _remove_ownerless(parent: Path, prefix: str) -> None:
    if not HAS_LOCKS:
        return  # who owns a folder cannot be known
    for folder in parent.glob(f"{glob.escape(prefix)}*{_SUFFIX}"):
        with suppress(OSError):  # gone meanwhile, or another user's: not ours to remove
            if time.time() - folder.stat().st_mtime > _GRACE_S:
                _remove_unless_locked(folder)


def _remove_unless_locked(folder: Path) -> None:
    with file_lock(folder) as is_free:
        if is_free:
            shutil.rmtree(folder, ignore_errors=True)
