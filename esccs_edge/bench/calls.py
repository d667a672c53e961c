"""The calls that are timed, and the parts an answer is made of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..classifier import Classifier
from ..contracts.values import PatchPair, Prediction
from ..errors import EsccsError
from ..runtime.postprocess import predictions

#: Calls whose medians give the cost of the queue.
QUEUE_CALLS = 50


def labels(classifier: Classifier, pairs: Sequence[PatchPair]) -> list[str]:
    """Return one label per pair: the call that is timed, as a user would make it."""
    if len(pairs) == 1:
        return [classifier.classify(pairs[0].optical, pairs[0].sar).label]
    answers = classifier.classify_batch(
        [pair.optical for pair in pairs], [pair.sar for pair in pairs]
    )
    return [_label(answer) for answer in answers]


def described(classifier: Classifier) -> dict[str, Any]:
    """Return what `Classifier.health` says, but not where the bundle is."""
    health = classifier.health()
    return {**health, "bundle": {name: health["bundle"][name] for name in ("name", "digest")}}


def runs_on_cpu(classifier: Classifier) -> bool:
    """Tell whether parts can be timed: on a GPU they overlap."""
    return bool(classifier.health()["backend"]["backend"] == "cpu")


def queue_ms(classifier: Classifier, pair: PatchPair) -> float:
    """Return what `Classifier.submit` costs beyond `Classifier.classify` for a lone pair."""
    direct, queued = [], []
    for _ in range(QUEUE_CALLS):
        start = time.perf_counter()
        classifier.classify(pair.optical, pair.sar)
        answered = time.perf_counter()
        classifier.submit(pair.optical, pair.sar).result()
        direct.append(answered - start)
        queued.append(time.perf_counter() - answered)
    return float(np.median(queued) - np.median(direct)) * 1e3


class CpuParts:
    """One lane of the CPU backend, without a queue, timed part by part.

    Args:
        classifier: Whose bundle and manifest to use; it must run on the CPU.
        max_batch: Most pairs in one batch.
        threads: CPU threads; None for all.
    """

    def __init__(self, classifier: Classifier, max_batch: int, threads: int | None) -> None:
        from ..backends.cpu.backend import CpuBackend

        self._manifest = classifier.manifest
        self._backend = CpuBackend(
            classifier.bundle, self._manifest, max_batch=max_batch, threads=threads
        )
        self._lane = self._backend.open_lane()

    def spent_ms(self, pairs: Sequence[PatchPair]) -> dict[str, float]:
        """Time each part of a batch.

        A lane preprocesses and infers in one go; so preprocessing is timed by itself, and
        inference is what the lane takes beyond it.
        """
        start = time.perf_counter()
        self._lane.read(pairs)
        ready = time.perf_counter()
        output = self._lane.answer(pairs)
        inferred = time.perf_counter()
        predictions(output, pairs, self._manifest)
        marks = (start, ready, inferred, time.perf_counter())
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
