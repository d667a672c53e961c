"""Whole small files, with a look at their kind and size before anything is read.

A pipe would make the reader wait for ever, and a device or a sparse file would fill the memory.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def read_regular(path: str | os.PathLike[str], most_bytes: int, *, links: bool = True) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file.
        most_bytes: Largest size that is read.
        links: Follow a symbolic link in the last part of the path.

    Raises:
        OSError: It cannot be opened, is no regular file, or is larger; ``strerror`` says which.
    """
    with _opened(path, links=links) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= most_bytes:
            content = stream.read(most_bytes + 1)
            if len(content) <= most_bytes:
                return content
    raise OSError(errno.EFBIG, f"it has {size} bytes, expected at most {most_bytes}", str(path))


def require_regular(path: str | os.PathLike[str]) -> None:
    """Check that a path leads to a regular file, for a library that opens it itself.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    _opened(path, links=True).close()


def _opened(path: str | os.PathLike[str], *, links: bool) -> BinaryIO:
    no_link = 0 if links else getattr(os, "O_NOFOLLOW", 0)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | no_link
    if not links and Path(path).is_symlink():  # said in words, where the system says "loop"
        raise OSError(errno.ELOOP, "it is a link, expected a file of its own", str(path))
    stream = open(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return stream
