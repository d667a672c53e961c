"""An advisory lock on a file or folder, which the system releases when its holder dies."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None  # type: ignore[assignment]

#: Where False, every lock is granted: a lock that is free proves nothing about other processes.
HAS_LOCKS = fcntl is not None
_POLL_S = 0.05


@contextmanager
def file_lock(path: Path, *, timeout_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock of a path; yields whether it is held.

    Args:
        path: A folder, or a file that is made if it is absent; never a link to a file.
        timeout_s: How long to wait for another holder.

    Raises:
        OSError: The path cannot be opened, or its file system has no locks.
    """
    if not HAS_LOCKS:
        yield True
        return
    if path.is_dir():
        with folder_lock(path, timeout_s=timeout_s) as held:
            yield held
        return
    with _locked(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, timeout_s) as held:
        yield held


@contextmanager
def folder_lock(folder: Path, *, timeout_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock of a folder, which is not made; yields whether it is held.

    Raises:
        OSError: There is no such folder, or its file system has no locks.
    """
    if not HAS_LOCKS:
        yield True
        return
    with _locked(folder, os.O_RDONLY | os.O_DIRECTORY, timeout_s) as held:
        yield held


@contextmanager
def folder_lock_if_any(folder: Path, *, timeout_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock of a folder; also counts as held where its file system has no locks."""
    with ExitStack() as until:
        try:
            held = until.enter_context(folder_lock(folder, timeout_s=timeout_s))
        except OSError:
            held = True
        yield held


@contextmanager
def _locked(path: Path, flags: int, timeout_s: float) -> Iterator[bool]:
    descriptor = os.open(path, flags, 0o600)
    try:
        yield _acquire(descriptor, timeout_s)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(_POLL_S)
