"""Standard streams that can be written to, whatever the caller closed or which letters it knows."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

_NAMES = ("stdin", "stdout", "stderr")


def open_missing_streams() -> bool:
    """Put the null device where a standard stream is closed; return whether output was open.

    Otherwise the next file that is opened would take its number, and messages of native libraries
    would be written into it.
    """
    has_output = sys.stdout is not None
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        _never_refuse(stream)
    return has_output


def spells_all_text(stream: TextIO) -> bool:
    """Return whether every letter can be written to a stream as it is."""
    return (stream.encoding or "").lower().replace("-", "") in ("utf8", "utf16", "utf32")


def _never_refuse(stream: Any) -> None:
    """Let a stream spell letters that it does not know by their numbers."""
    if hasattr(stream, "reconfigure") and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")
