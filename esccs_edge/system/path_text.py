"""Names of files as text, whatever letters the locale of this process knows.

In a locale such as C, Python hands out letters of file names as halves of surrogate pairs, which
libraries, files and pictures do not take.
"""

from __future__ import annotations

import os


def path_text(path: str | os.PathLike[str]) -> str:
    """Return a path as Unicode, read from its bytes as UTF-8.

    Raises:
        UnicodeDecodeError: The name is no text.
    """
    return os.fsencode(path).decode()


def shown_text(text: str) -> str:
    """Return text with such halves joined to letters; those that make none are spelled in ASCII."""
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        return text
    try:
        return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    except UnicodeEncodeError:  # halves that come from elsewhere than a file name
        return text.encode(errors="backslashreplace").decode()
