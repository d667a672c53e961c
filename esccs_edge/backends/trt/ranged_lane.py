"""A lane whose steps have names in a profile of Nsight Systems: NVTX ranges, where asked for.

``ESCCS_NVTX=1`` lets lanes of backends opened later be such ones; without it nothing of this runs.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ...contracts.values import Sample
from ...errors import MissingDependencyError
from ..base import LaneOutput
from .lane import TrtLane
from .pixel_upload import Filled

#: Environment variable that asks for ranges.
VARIABLE = "ESCCS_NVTX"
DOMAIN = "esccs-edge"


def lane_kind() -> type[TrtLane]:
    """Return the class of the lanes to open.

    Raises:
        MissingDependencyError: Ranges are asked for and the package nvtx is not installed.
    """
    if os.environ.get(VARIABLE, "0") in ("", "0"):
        return TrtLane
    try:
        importlib.import_module("nvtx")
    except ImportError as error:
        raise MissingDependencyError(
            f"{VARIABLE} asks for NVTX ranges, which need the package nvtx",
            hint="Run: pip install nvtx",
        ) from error
    return RangedLane


class RangedLane(TrtLane):
    """Ranges ``start``, in it ``fill`` and ``enqueue``, and ``finish``, with the batch's size."""

    @cached_property
    def _nvtx(self) -> Any:
        return importlib.import_module("nvtx")

    def _range(self, name: str) -> Any:
        return self._nvtx.annotate(name, domain=DOMAIN)

    def start(self, batch: Sequence[Sample]) -> None:
        """See `TrtLane`."""
        with self._range(f"start {len(batch)}"):
            super().start(batch)

    def finish(self) -> LaneOutput:
        """See `TrtLane`."""
        with self._range("finish"):
            return super().finish()

    def _fill(self, batch: Sequence[Sample]) -> Filled:
        with self._range("fill"):
            return super()._fill(batch)

    def _run(self, filled: Filled) -> None:
        known = "graph" if filled in self.contexts.graphs else "plain"
        with self._range(f"enqueue {filled.rows}, {known}"):
            super()._run(filled)
