"""Keep a thread's signal stack what it was, whatever a library does to it.

OpenVINO's CPU plugin gives the thread that loads it a signal stack of its own and unmaps it with
the runtime. When that happens in another thread, or when two runtimes end out of order, the stack
is gone while the thread still uses it, and the next signal with a handler, Ctrl-C among them,
kills the process.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _SignalStack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (
        ("start", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("bytes", ctypes.c_size_t),
    )


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Put the calling thread's signal stack back when the block ends. Linux only, else nothing.

    Where the kernel no longer takes the former one (it became too small for what the block
    switched on), the present one stays.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    sigaltstack = ctypes.CDLL(None).sigaltstack
    before = _SignalStack()
    is_known = sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if is_known:
            sigaltstack(ctypes.byref(before), None)
