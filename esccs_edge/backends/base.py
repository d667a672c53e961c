"""The seam between the pipeline and whatever runs the network.

The pipeline sees a `Backend` that opens `Lane`s; a lane takes one batch at a time, starts it and
later returns the result. CPU, TensorRT and a test double are peers behind these two classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..contracts.types import Array
from ..contracts.values import PixelStats, Sample


@dataclass(frozen=True)
class LaneOutput:
    """What a lane returns for a batch of N samples. The arrays belong to the caller.

    Attributes:
        outputs: Name of each tensor of `Manifest.returned` -> ``(N, ...)`` of its type.
        stats: Modality name -> preprocessing statistics of each sample.
    """

    outputs: Mapping[str, Array]
    stats: Mapping[str, Sequence[PixelStats]]


class Lane(ABC):
    """One set of buffers and one execution state; runs one batch at a time, from one thread.

    The order is ``start``, ``finish``, ``start``, ``finish``; ``close`` may come at any time
    between and may be called twice.
    """

    @abstractmethod
    def start(self, batch: Sequence[Sample]) -> None:
        """Take 1..max_batch checked samples, whose pixels stay as they are until `finish` returns.

        A device begins to work on them; where the CPU itself does, the work may wait for `finish`.
        """

    @abstractmethod
    def finish(self) -> LaneOutput:
        """Wait for the batch started last and return its result.

        Raises:
            BackendError: Inference failed; the lane can be used again.
        """

    def answer(self, batch: Sequence[Sample]) -> LaneOutput:
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
        max_batch: Most samples one lane takes at once.
        devices: How many devices it runs on, each of which wants lanes of its own.
        why: Why ``"auto"`` took it instead of a GPU; empty if it did not.
    """

    name: str
    max_batch: int
    devices: int = 1
    why: str = ""

    @abstractmethod
    def open_lane(self) -> Lane:
        """Allocate a lane. Lanes are independent and may run at the same time."""

    def keep(self) -> None:  # noqa: B027  # most backends compile nothing while they run
        """Keep what was compiled while lanes ran, for the next start; called after a warm-up."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return device, library versions and precision, for ``health()`` and ``doctor``."""

    @abstractmethod
    def close(self) -> None:
        """Free the model; lanes must be closed before. Idempotent."""
