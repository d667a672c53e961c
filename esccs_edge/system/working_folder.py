"""A hidden folder beside a target, in which it is made; gone afterwards, whatever happened.

A killed process cannot clean up, so the next one that writes there does it. Whether a folder still
has an owner is told by its lock alone, which the system releases when a process dies; clocks say
nothing. Where the file system has no locks, nothing of others is ever removed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .file_lock import HAS_LOCKS, folder_lock

#: Only folders with names of this form are ever removed; no user calls one of his own so.
_NAME = re.compile(r"\..*-[0-9a-f]{16}\.esccs-partial")
#: So that a long name of a target makes none that is too long.
_STEM_CHARACTERS = 40


@contextmanager
def working_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder on the target's file system and remove it with all it holds.

    Raises:
        OSError: The folder cannot be made.
    """
    remove_ownerless(target.parent)
    while True:
        name = f".{target.stem[:_STEM_CHARACTERS]}-{secrets.token_hex(8)}.esccs-partial"
        folder = target.with_name(name)
        folder.mkdir(mode=0o700)
        try:
            with ExitStack() as until:
                if _is_ours(folder, until):
                    yield folder
                    return
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_ownerless(where: Path, *, deep: bool = False) -> list[Path]:
    """Remove what killed processes left behind in a folder; return what was removed.

    Args:
        where: A folder; one that is missing or cannot be read holds nothing.
        deep: Look into the folders below it too.
    """
    removed: list[Path] = []
    if not HAS_LOCKS:
        return removed  # who owns a folder cannot be known
    with suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            path = Path(entry.path)
            if not _NAME.fullmatch(entry.name):
                if deep and entry.is_dir(follow_symlinks=False):
                    removed += remove_ownerless(path, deep=True)
            elif entry.is_dir(follow_symlinks=False) and _remove_unless_locked(path):
                removed.append(path)
    return removed


def _is_ours(folder: Path, until: ExitStack) -> bool:
    """Lock a new folder; false where another process took it for ownerless before that."""
    try:
        return until.enter_context(folder_lock(folder)) and folder.is_dir()
    except FileNotFoundError:
        return False
    except OSError:  # a file system without locks; nothing is removed there either
        return True


def _remove_unless_locked(folder: Path) -> bool:
    with suppress(OSError), folder_lock(folder) as is_free:  # gone, another user's, or no locks
        if is_free:
            shutil.rmtree(folder, ignore_errors=True)
            return not folder.exists()
    return False
