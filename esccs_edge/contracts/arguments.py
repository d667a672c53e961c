"""What is handed in by name: numbers and paths, refused in words where they are something else."""

from __future__ import annotations

import math
import operator
import os
from numbers import Real
from typing import Any

from ..errors import InputError


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return an argument as an integer.

    Raises:
        InputError: It is text, a fraction, True or False, or out of its range.
    """
    wanted = f"at least {least}" if most is None else f"{least} to {most}"
    try:
        if isinstance(value, bool):
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}, expected a whole number, {wanted}") from None
    if found < least or most is not None and found > most:
        raise InputError(f"{name} is {found}, expected {wanted}")
    return found


def real_number(name: str, value: Any) -> float:
    """Return an argument as a finite float.

    Raises:
        InputError: It is text, not finite, or no number.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}, expected a number")
    return float(value)


def require_path(name: str, value: Any) -> None:
    """Refuse what is no path.

    Raises:
        InputError: It is neither text nor a path, such as pixels.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{name} is of type {type(value).__name__}, expected the path of a file")
