"""A forked child that dies, or is denied a call, where it is about to change the file system.

Python says what it is about to do through audit events, before the system call: between two of them
a kill leaves the same as at the first.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

#: Audit events of calls that change a folder. ``open`` counts when it writes.
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.utime")


def killed_at(number: int, folder: Path, action: Callable[[], object]) -> bool:
    """Run an action in a child that dies by SIGKILL before its change of that number, from 0.

    Returns:
        Whether it died; false where the action has fewer changes and ended.
    """
    child = os.fork()
    if child == 0:
        try:
            sys.addaudithook(_Countdown(number, str(folder)))
            action()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"the child failed with {status}"
    return status != 0


def killed_after(seconds: float, action: Callable[[], object]) -> bool:
    """Run an action in a child that dies by SIGKILL so long after its start.

    Returns:
        Whether it died; false where it ended before.
    """
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    end_s = time.monotonic() + seconds
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end_s:
        time.sleep(1e-4)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(ended[1])
    assert status in (0, -signal.SIGKILL), f"the child failed with {status}"
    return status != 0


def denied_at(
    number: int, folder: Path, action: Callable[[], object], error: int
) -> tuple[bool, str]:
    """Run an action in a child to which the system denies its change of that number, from 0.

    Args:
        number: Of the change.
        folder: Where changes count.
        action: What changes it.
        error: What the system says, such as `errno.ENOSPC`.

    Returns:
        Whether a change was denied, and what the action raised as ``"TypeName: message"``; empty
        where it ended well.
    """
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(told)
            countdown = _Countdown(number, str(folder), error)
            sys.addaudithook(countdown)
            try:
                action()
                said = ""
            except Exception as raised:
                said = f"{type(raised).__name__}: {raised}"
            os.write(tell, f"{int(countdown.is_over)}{said}"[:4000].encode(errors="replace"))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(tell)
    with os.fdopen(told, "rb") as stream:
        text = stream.read().decode(errors="replace")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child did not end well"
    return text[:1] == "1", text[1:]


class _Countdown:
    def __init__(self, number: int, folder: str, error: int | None = None) -> None:
        self._left = number
        self._folder = folder
        self._error = error
        self.is_over = False

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self._changes(event, arguments):
            return
        if self._left == 0:
            self._left -= 1
            self.is_over = True
            if self._error is None:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(self._error, os.strerror(self._error or 0))
        self._left -= 1

    def _changes(self, event: str, arguments: tuple) -> bool:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            # Closing is not told, so a file that is read at once after it was written counts too:
            # it is flushed to disk then.
            is_new = isinstance(path, (str, os.PathLike)) and ".esccs-partial" in os.fspath(path)
            return (bool(writes) or is_new) and self._is_inside(path)
        return event in CHANGES and any(self._is_inside(one) for one in arguments[:2])

    def _is_inside(self, path: object) -> bool:
        return isinstance(path, (str, os.PathLike)) and str(os.fspath(path)).startswith(
            self._folder
        )
