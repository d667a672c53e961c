"""The calls that are timed, and the parts an answer is made of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..contracts.bundle import Bundle
from ..contracts.bundle_files import Precision
from ..contracts.values import Sample
from ..runtime import postprocess
from ..runtime.model import Health, ModelRuntime, raised

#: Calls whose medians give the cost of the queue.
QUEUE_CALLS = 50


class HasHealth(Protocol):
    """A `ModelRuntime`, or a front door on it."""

    def health(self) -> Health:
        """Return whether it answers as it did at the start."""


def answers(model: ModelRuntime[Any], samples: Sequence[Sample]) -> list[Any]:
    """Return one answer per sample: the call that is timed, as a user would make it."""
    if len(samples) == 1:
        return [model.run(samples[0].pixels)]
    return [raised(answer) for answer in model.run_batch(sample.pixels for sample in samples)]


def described(model: HasHealth) -> dict[str, Any]:
    """Return what ``health`` of a model or front door says, but not where the bundle is."""
    health = model.health().to_dict()
    return {**health, "bundle": {name: health["bundle"][name] for name in ("name", "digest")}}


def runs_on_cpu(model: ModelRuntime[Any]) -> bool:
    """Return whether parts can be timed: on a GPU they overlap."""
    return model.backend.name == "cpu"


def queue_ms(model: ModelRuntime[Any], sample: Sample) -> float:
    """Return what `ModelRuntime.submit` costs beyond `ModelRuntime.run` for a single sample."""
    direct, queued = [], []
    for _ in range(QUEUE_CALLS):
        start = time.perf_counter()
        model.run(sample.pixels)
        answered = time.perf_counter()
        model.submit(sample.pixels).result()
        direct.append(answered - start)
        queued.append(time.perf_counter() - answered)
    return float(np.median(queued) - np.median(direct)) * 1e3


class CpuParts:
    """One lane of the CPU backend, without a queue, timed part by part.

    Args:
        bundle: The model.
        max_batch: Most samples in one batch.
        threads: CPU threads; None for all.
        precision: As `open_model` takes it.
    """

    def __init__(
        self, bundle: Bundle, max_batch: int, threads: int | None, precision: Precision
    ) -> None:
        from ..backends.cpu.backend import CpuBackend

        self._manifest = bundle.manifest
        self._backend = CpuBackend(
            bundle, self._manifest, max_batch=max_batch, threads=threads, precision=precision
        )
        self._lane = self._backend.open_lane()

    def spent_ms(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Time each part of a batch.

        A lane preprocesses and infers in one go; so preprocessing is timed by itself, and
        inference is what the lane takes beyond it.
        """
        start = time.perf_counter()
        self._lane.preprocess_only(samples)
        ready = time.perf_counter()
        output = self._lane.answer(samples)
        inferred = time.perf_counter()
        postprocess.answers(output, samples, self._manifest)
        marks = (start, ready, inferred, time.perf_counter())
        alone, lane, after = (np.diff(marks) * 1e3).tolist()
        return {"preprocess": alone, "inference": lane - alone, "postprocess": after}

    def close(self) -> None:
        """Free the lane."""
        self._lane.close()
        self._backend.close()
