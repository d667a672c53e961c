"""Names for types that many files share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

PathLike = str | os.PathLike[str]
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
#: Class numbers, -1 where the class is not known.
Labels = npt.NDArray[np.int64]

#: Called with steps done and steps in all.
Progress = Callable[[int, int], None]


class Pixels(Protocol):
    """What arrays on the host and on a GPU have in common; most of the runtime needs no more."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, H, W)``."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored type of the elements."""
