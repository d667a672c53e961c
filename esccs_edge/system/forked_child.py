"""Native state that a forked child inherits without the threads that belong to it.

Its destructors would wait for those threads for ever: a child that forks and leaves would never
end. So whoever holds such state registers it here, and in a child it is never destroyed; the system
takes the memory back when the child ends.
"""

from __future__ import annotations

import ctypes
import os
import weakref

_holders: weakref.WeakSet[object] = weakref.WeakSet()


def keep_in_children(holder: object) -> None:
    """Never destroy an object, nor what it refers to, in a forked child of this process.

    Args:
        holder: Refers to the native objects as long as they live; can be weakly referenced.
    """
    _holders.add(holder)


def _keep_all() -> None:
    # A list would not do: modules are emptied before the interpreter ends. A count too many stays.
    for holder in _holders:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(holder))


if hasattr(os, "register_at_fork"):  # elsewhere nothing forks
    os.register_at_fork(after_in_child=_keep_all)
