"""Pairs whose answers, or refusals, are known before a long run begins."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from esccs_edge.bench.pixels import reads_example
from esccs_edge.classifier import Classifier
from esccs_edge.contracts.values import Prediction
from esccs_edge.example import example_scene
from esccs_edge.pixels.synthetic import smooth_samples

#: Confidence may differ by so much: the size of a batch changes the order of float32 sums.
CONFIDENCE_ATOL = 3e-3
#: Two best classes nearer than this could change places by it.
CLOSE_CALL = 0.02
_SAMPLES = 24


@dataclass(frozen=True)
class Known:
    """A pair, the catalog's row of what is wrong with it, if anything, and its answer.

    Attributes:
        optical: As it is handed in.
        sar: The same.
        answer: What it was answered before the run; None where it is refused as `InputError`.
        row: Of the catalog; 0 for a pair with no fault.
    """

    optical: Any
    sar: Any
    answer: Prediction | None
    row: int = 0

    def is_answered_by(self, found: object) -> bool:
        """Whether that is the right answer."""
        return (
            isinstance(found, Prediction)
            and self.answer is not None
            and found.label == self.answer.label
            and abs(found.confidence - self.answer.confidence) <= CONFIDENCE_ATOL
        )


class Pairs:
    """Good and bad pairs to draw from, answered once by the classifier before anything else runs.

    Args:
        classifier: A fresh one.
    """

    def __init__(self, classifier: Classifier) -> None:
        whole = [sample.pixels for sample in smooth_samples(classifier.manifest, _SAMPLES)]
        pairs = [(pixels["optical"], pixels["sar"]) for pixels in whole]
        pairs += _windows(classifier)
        made = [pair for pair in pairs if not _is_close(classifier.classify(*pair))]
        optical, sar = made[0]
        self.good = [Known(*pair, classifier.classify(*pair)) for pair in made]
        self.good += [
            Known(*pair, classifier.classify(*pair), row) for row, *pair in _odd(optical, sar)
        ]
        self.bad = [Known(*pair, None, row) for row, *pair in _bad(optical, sar)]

    def draw(self, dice: random.Random, bad: float = 0.1) -> Known:
        """Return a pair, of the bad ones at that rate."""
        return dice.choice(self.bad if dice.random() < bad else self.good)


def _windows(classifier: Classifier) -> list[tuple[Any, Any]]:
    """Real pixels, where the model takes pairs like those of the example."""
    scene, size = example_scene(), classifier.manifest.sample.height
    if not reads_example(classifier.manifest):
        return []
    corners = range(0, scene.optical.shape[1] - size + 1, size)
    windows = [scene.window(row, column, size) for row in corners for column in corners]
    return [(window.optical, window.sar) for window in windows]


def _is_close(answer: Prediction) -> bool:
    *_, second, first = sorted(answer.probabilities.values())
    return first - second < CLOSE_CALL


def _odd(optical: Any, sar: Any) -> list[tuple[int, Any, Any]]:
    """Pairs that look odd and are answered all the same: row, optical, SAR."""
    holes = sar.copy()
    holes[:, ::3, ::5] = np.nan
    frozen = optical.copy()
    frozen.setflags(write=False)
    twice = np.repeat(optical, 2, axis=2)
    return [
        (1, optical, holes),
        (3, np.zeros_like(optical), np.full_like(sar, np.nan)),
        (4, None, sar),
        (4, optical, None),
        (5, None, None),
        (21, optical.astype(optical.dtype.newbyteorder()), sar),
        (22, twice[:, :, ::2], sar[:, ::-1][:, ::-1]),
        (23, frozen, sar),
        (25, optical.tolist(), sar),
        (25, SlowPixels(optical), sar),
    ]


def _bad(optical: Any, sar: Any) -> list[tuple[int, Any, Any]]:
    """Pairs that are refused: row, optical, SAR."""
    return [
        (7, optical[:-1], sar),
        (9, optical.transpose(1, 2, 0), sar),
        (10, sar, optical),
        (11, optical[:, :-1], sar[:, :-1]),
        (14, optical.astype(object), sar),
        (14, optical.astype(complex), sar),
        (15, optical.astype(np.float32), sar),
        (18, optical, np.power(10, sar / 10, dtype=np.float32)),
        (25, RaisingPixels(KeyError, "no such pixels"), sar),
        (25, RaisingPixels(OSError, "the file of these pixels is gone"), sar),
        (25, RaisingPixels(ZeroDivisionError, "an error of another library"), sar),
    ]


@dataclass(frozen=True)
class RaisingPixels:
    """An array of another library that fails when it is read."""

    error: type[Exception]
    words: str

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self.error(self.words)  # a new one, since each keeps the frames that it went through


@dataclass(frozen=True)
class SlowPixels:
    """An array of another library that takes its time."""

    pixels: Any

    def __array__(self, *_: Any, **__: Any) -> Any:
        time.sleep(0.01)
        return self.pixels
