"""Objects of other libraries -> NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contracts.types import Array
from ..errors import InputError


def host_array(pixels: Any, name: str, *, hint: str = "") -> Array:
    """Read whatever the caller handed in as an array.

    Args:
        pixels: Anything that NumPy reads: lists, or an object with ``__array__``.
        name: What to call it in an error.
        hint: What to do about it.

    Raises:
        InputError: It cannot be read, whatever its own code raised: an error of one sample must not
            end the others of a batch or stream.
    """
    try:
        return np.asarray(pixels)
    except MemoryError:
        raise
    except Exception as error:  # anything may come out of another library's object
        kind = "" if isinstance(error, (TypeError, ValueError)) else f"{type(error).__name__}: "
        raise InputError(f"{name} cannot be read as an array: {kind}{error}", hint=hint) from error
