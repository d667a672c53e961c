"""A hidden folder beside a target, in which it is made; gone afterwards, whatever happened.

A killed process cannot clean up, so the next one that writes the same target does it.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such lock; leftovers stay there
    fcntl = None  # type: ignore[assignment]

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
    with tempfile.TemporaryDirectory(prefix=prefix, suffix=_SUFFIX, dir=target.parent) as name:
        descriptor = _locked(Path(name))
        try:
            yield Path(name)
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _remove_ownerless(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{glob.escape(prefix)}*{_SUFFIX}"):
        with suppress(OSError):  # gone meanwhile, or another user's: not ours to remove
            if time.time() - folder.stat().st_mtime > _GRACE_S:
                _remove_unless_locked(folder)


def _remove_unless_locked(folder: Path) -> None:
    descriptor = _locked(folder)
    if descriptor is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _locked(folder: Path) -> int | None:
    """Lock a folder for this process; None if another one holds it. The lock dies with us."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
