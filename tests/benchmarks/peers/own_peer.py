"""This package, called as a user calls it."""

from __future__ import annotations

from typing import Any

from esccs_edge.bench.calls import CpuParts, described, queue_ms
from esccs_edge.classifier import Classifier
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.values import PatchPair
from esccs_edge.errors import InputError
from esccs_edge.runtime.model import raised

from . import TURN
from .numpy_preprocess import Float
from .peer import Peer, Pixels


class OwnPeer(Peer):
    """A `Classifier` with default settings; larger batches go through it in turns.

    Args:
        bundle: The student.
        threads: CPU threads; None for all.
        backend: As `Classifier` takes it.
    """

    def __init__(self, bundle: Bundle, threads: int | None, backend: str) -> None:
        self._threads = threads
        # No waiting for company, so that what `submit` costs is the queue and nothing else.
        self._classifier = Classifier(bundle, backend, TURN, threads=threads, max_delay_ms=0.0)
        self._parts: CpuParts | None = None

    def labels(self, optical: Pixels, sar: Pixels) -> list[str]:
        """See `Peer`."""
        if len(optical) == 1:
            return [self._classifier.classify(optical[0], sar[0]).label]
        answers = self._classifier.classify_batch(optical, sar)
        return [raised(answer).label for answer in answers]

    def logits(self, optical: Pixels, sar: Pixels) -> Float:
        """Predictions hold no logits, so there are none to compare."""
        raise InputError("the package answers with probabilities, not with logits")

    def parts_ms(self, optical: Pixels, sar: Pixels) -> dict[str, float]:
        """See `Peer`; on the CPU only, since on a GPU all parts overlap."""
        if self._parts is None:
            if self._classifier.backend_name != "cpu":
                return {}
            self._parts = CpuParts(self._classifier.bundle, TURN, self._threads, "auto")
        return self._parts.spent_ms([PatchPair(*pair) for pair in zip(optical, sar, strict=True)])

    def queue_ms(self, optical: Pixels, sar: Pixels) -> float | None:
        """See `Peer`."""
        return queue_ms(self._classifier._model, PatchPair(optical[0], sar[0]))

    def describe(self) -> dict[str, Any]:
        """See `Peer`; what `Classifier.health` says, but not where the bundle is."""
        return described(self._classifier)

    def close(self) -> None:
        """See `Peer`."""
        if self._parts is not None:
            self._parts.close()
        self._classifier.close()
