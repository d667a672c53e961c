"""This package, called as a user calls it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ...classifier import Classifier
from ...contracts.bundle import Bundle
from ...contracts.manifest import Manifest
from ...contracts.values import PatchPair, Prediction
from ...errors import EsccsError, InputError
from ...runtime.postprocess import predictions
from . import TURN
from .numpy_preprocess import Float
from .peer import Peer, Pixels, turns

#: Calls whose medians tell the cost of the queue.
QUEUE_CALLS = 50


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
        self._parts: _Parts | None = None

    def labels(self, optical: Pixels, sar: Pixels) -> list[str]:
        """See `Peer`."""
        if len(optical) == 1:
            return [self._classifier.classify(optical[0], sar[0]).label]
        answers = self._classifier.classify_batch(list(optical), list(sar))
        return [_label(answer) for answer in answers]

    def logits(self, optical: Pixels, sar: Pixels) -> Float:
        """Predictions hold no logits, so there are none to compare."""
        raise InputError("the package answers with probabilities, not with logits")

    def parts_ms(self, optical: Pixels, sar: Pixels) -> dict[str, float]:
        """See `Peer`; on the CPU only, since on a GPU all parts overlap."""
        if self._parts is None:
            device = self._classifier.health()["backend"]
            if device["backend"] != "cpu":
                return {}
            self._parts = _Parts(self._classifier, self._threads)
        return self._parts.spent_ms(optical, sar)

    def queue_ms(self, optical: Pixels, sar: Pixels) -> float:
        """Return what `Classifier.submit` costs beyond `Classifier.classify` for a lone pair."""
        direct, queued = [], []
        for _ in range(QUEUE_CALLS):
            start = time.perf_counter()
            self._classifier.classify(optical[0], sar[0])
            answered = time.perf_counter()
            self._classifier.submit(optical[0], sar[0]).result()
            direct.append(answered - start)
            queued.append(time.perf_counter() - answered)
        return float(np.median(queued) - np.median(direct)) * 1e3

    def describe(self) -> dict[str, Any]:
        """See `Peer`; what `Classifier.health` says, but not where the bundle lies."""
        health = self._classifier.health()
        bundle = {name: health["bundle"][name] for name in ("name", "digest")}
        return {**health, "bundle": bundle}

    def close(self) -> None:
        """See `Peer`."""
        if self._parts is not None:
            self._parts.close()
        self._classifier.close()


class _Parts:
    """One lane of the CPU backend without queue, timed part by part."""

    def __init__(self, classifier: Classifier, threads: int | None) -> None:
        self._manifest: Manifest = classifier.manifest
        from ...backends.cpu.backend import CpuBackend

        self._backend = CpuBackend(
            classifier.bundle, self._manifest, max_batch=TURN, threads=threads
        )
        self._lane = self._backend.open_lane()

    def spent_ms(self, optical: Pixels, sar: Pixels) -> dict[str, float]:
        """Time each part of a batch, in turns of what a lane takes.

        A lane preprocesses and infers in one go; so preprocessing is timed by itself, and
        inference is what the lane takes beyond it.
        """
        marks = np.zeros(4)
        for turn in turns(len(optical)):
            pairs = [PatchPair(*pair) for pair in zip(optical[turn], sar[turn], strict=True)]
            start = time.perf_counter()
            self._lane.read(pairs)
            ready = time.perf_counter()
            output = self._lane.answer(pairs)
            inferred = time.perf_counter()
            predictions(output, pairs, self._manifest)
            marks += start, ready, inferred, time.perf_counter()
        alone, lane, after = (np.diff(marks) * 1e3).tolist()
        return {"preprocess": alone, "inference": lane - alone, "postprocess": after}

    def close(self) -> None:
        """Free the lane."""
        self._lane.close()
        self._backend.close()


def _label(answer: Prediction | EsccsError) -> str:
    if isinstance(answer, EsccsError):
        raise answer
    return answer.label
