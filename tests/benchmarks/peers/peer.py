"""The seam of the comparison: a peer takes raw pixels and answers with labels."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.onnx_file import require_plain
from esccs_edge.errors import ArtifactError

from . import TURN
from .numpy_preprocess import Float, NumpyPreprocess

Pixels = npt.NDArray[Any]


class Peer(ABC):
    """A loaded student.

    Pixels are ``optical (N, C, H, W)`` and ``sar (N, P, H, W)`` as stored.
    """

    @abstractmethod
    def labels(self, optical: Pixels, sar: Pixels) -> list[str]:
        """Return one label per pair: the call that is timed."""

    @abstractmethod
    def logits(self, optical: Pixels, sar: Pixels) -> Float:
        """Return ``(N, K)``, to compare the numbers behind the labels."""

    @abstractmethod
    def parts_ms(self, optical: Pixels, sar: Pixels) -> dict[str, float]:
        """Do what `labels` does once and return how long each part of it took."""

    def queue_ms(self, optical: Pixels, sar: Pixels) -> float | None:
        """Return what waiting in a queue adds to the answer for a lone pair; None without one."""
        return None

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return library version, arithmetic and settings."""

    def close(self) -> None:
        """Free what the peer holds. Idempotent."""
        return


class NumpyPeer(Peer):
    """A runtime that is fed by NumPy preprocessing and whose labels are an argmax.

    Args:
        bundle: Where the student is.
        graph: Name of the ONNX file to run.
    """

    def __init__(self, bundle: Bundle, graph: str) -> None:
        if graph not in bundle.manifest.files:
            raise ArtifactError(f"the bundle has no {graph}")
        self._classes = bundle.manifest.classes
        self._preprocess = NumpyPreprocess(bundle.manifest)
        self._content = bundle.read(graph)
        require_plain(self._content, graph)

    @abstractmethod
    def infer(self, inputs: dict[str, Float]) -> Float:
        """Return the logits ``(N, K)``; may be a view that the next call overwrites."""

    def labels(self, optical: Pixels, sar: Pixels) -> list[str]:
        """See `Peer`."""
        names: list[str] = []
        for turn in turns(len(optical)):
            names += self._names(self.infer(self._preprocess(optical[turn], sar[turn])))
        return names

    def logits(self, optical: Pixels, sar: Pixels) -> Float:
        """See `Peer`."""
        # Copied, since a runtime may write the next answer over this one.
        return np.concatenate(
            [
                self.infer(self._preprocess(optical[turn], sar[turn])).copy()
                for turn in turns(len(optical))
            ]
        )

    def parts_ms(self, optical: Pixels, sar: Pixels) -> dict[str, float]:
        """See `Peer`."""
        marks = np.zeros(4)
        for turn in turns(len(optical)):
            start = time.perf_counter()
            inputs = self._preprocess(optical[turn], sar[turn])
            ready = time.perf_counter()
            logits = self.infer(inputs)
            inferred = time.perf_counter()
            self._names(logits)
            marks += start, ready, inferred, time.perf_counter()
        spent = (np.diff(marks) * 1e3).tolist()
        return dict(zip(("preprocess", "inference", "postprocess"), spent, strict=True))

    def _names(self, logits: Float) -> list[str]:
        return [self._classes[best] for best in logits.argmax(axis=1).tolist()]


def turns(count: int) -> list[slice]:
    """Return where each turn of a call with ``count`` pairs begins and ends."""
    return [slice(first, first + TURN) for first in range(0, count, TURN)]
