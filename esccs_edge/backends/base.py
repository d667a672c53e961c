"""The seam between the pipeline and whatever runs the network.

The pipeline sees a `Backend` that opens `Lane`s; a lane takes one batch at a time, starts it and
later hands the result over. CPU, TensorRT and a test double are peers behind these two classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.values import PatchPair, PixelStats


@dataclass(frozen=True)
class LaneOutput:
    """What a lane returns for a batch of N pairs. The arrays belong to the caller.

    Attributes:
        logits: ``(N, K)`` float32, before softmax.
        gate: ``(N, 2)`` float32, optical first; a row sums to 1, or is 0 if nothing was valid.
        optical: Preprocessing statistics of each pair's optical patch.
        sar: The same for SAR.
    """

    logits: npt.NDArray[np.float32]
    gate: npt.NDArray[np.float32]
    optical: Sequence[PixelStats]
    sar: Sequence[PixelStats]


class Lane(ABC):
    """One set of buffers and one execution state; runs one batch at a time, from one thread.

    The order is ``start``, ``finish``, ``start``, ``finish``; ``close`` may come at any time
    between and may be called twice.
    """

    @abstractmethod
    def start(self, batch: Sequence[PatchPair]) -> None:
        """Take 1..max_batch checked pairs, whose pixels stay as they are until `finish` returns.

        A device begins to work on them; where the CPU itself does, the work may wait for `finish`.
        """

    @abstractmethod
    def finish(self) -> LaneOutput:
        """Wait for the batch started last and return its result.

        Raises:
            BackendError: Inference failed; the lane can be used again.
        """

    def answer(self, batch: Sequence[PatchPair]) -> LaneOutput:
        """Start a batch and finish it."""
        self.start(batch)
        return self.finish()

    @abstractmethod
    def close(self) -> None:
        """Free the lane's resources. Idempotent."""


class Backend(ABC):
    """A loaded model on one device.

    Attributes:
        name: ``"cpu"`` or ``"tensorrt"``; what ``Classifier(backend=...)`` takes.
        max_batch: Most pairs one lane takes at once.
    """

    name: str
    max_batch: int

    @abstractmethod
    def open_lane(self) -> Lane:
        """Allocate a lane. Lanes are independent and may run at the same time."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return device, library versions and precision, for ``health()`` and ``doctor``."""

    @abstractmethod
    def close(self) -> None:
        """Free the model; lanes must be closed before. Idempotent."""
