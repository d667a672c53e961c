"""One class per pixel of an image series: crops from a season of images, with gaps.

The trained network answers logits in float32; export adds the images that come back from a device,
see `esccs_edge.contracts.tensor`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ...errors import BackendError
from ..task import Contract, Measure, input_tensors, not_finite, prevailing_class
from ..tensor import NOT_FINITE, Tensor
from ..types import Array, Floats, Labels, Mask
from ..values import NODATA, Flag
from .pixel_answer import PixelAnswer, require_classes_of_a_byte
from .semantic_segmentation import SAME_LABELS, SAME_PERCENT
from .series_classification import require_series, seen_tensor


@dataclass(frozen=True, repr=False)
class SeriesSegmentation(PixelAnswer):
    """The answer for one series of images; no pixel counts that no sensor saw all season.

    Attributes:
        seen: Sensor -> share of valid pixels on each date of the calendar.
    """

    seen: Mapping[str, tuple[float, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `PixelAnswer`, and ``seen``."""
        seen = {name: list(shares) for name, shares in self.seen.items()}
        return {**super().to_dict(), "seen": seen}


class SeriesSegmentationTask:
    """Series of images, optical, SAR or both -> a class and its confidence at every pixel."""

    name = "series-segmentation"
    target: Literal["class", "map"] = "map"
    measure: Measure = "miou"
    network = "network over space and time (3-D FCN, U-TAE)"

    def inputs(self, contract: Contract) -> tuple[Tensor, ...]:
        """``optical (N, C, T * H, W)``, ``sar`` likewise or one of them, ``availability (N, M)``.

        Raises:
            ManifestError: Other modalities, no dates, or more classes than fit a byte.
        """
        require_series(contract)
        require_classes_of_a_byte(contract)
        return input_tensors(contract)

    def outputs(self, contract: Contract) -> tuple[Tensor, ...]:
        """``logits (N, K, H, W)`` and ``seen (N, M, T)``, the share of valid pixels."""
        grid = contract.sample.height, contract.sample.width
        logits = Tensor("logits", ("N", len(contract.classes), *grid), "logits")
        return logits, seen_tensor(contract)

    def returned(self, contract: Contract) -> tuple[Tensor, ...]:
        """``label``, ``confidence (N, H, W)``, ``scores (N, K, H, W)`` and ``seen``."""
        grid = contract.sample.height, contract.sample.width
        return (
            Tensor("label", ("N", *grid), "label"),
            Tensor("confidence", ("N", *grid), "confidence"),
            Tensor("scores", ("N", len(contract.classes), *grid), "scores"),
            seen_tensor(contract),
        )

    def rows(self, outputs: Mapping[str, Array], contract: Contract) -> Sequence[Sequence[Array]]:
        """Return label, confidence, scores and seen dates of each series."""
        return list(zip(*(outputs[tensor.name] for tensor in self.returned(contract)), strict=True))

    def answer(
        self, row: Sequence[Array], flags: Set[Flag], contract: Contract
    ) -> SeriesSegmentation | BackendError:
        """Return the images of one series."""
        label, confidence, scores, seen = row
        if confidence.max() == NOT_FINITE:
            return not_finite("series")
        shares = [tuple(float(share) for share in of_sensor) for of_sensor in seen]
        days = dict(zip(contract.modalities, shares, strict=True))
        return SeriesSegmentation(
            label, confidence, scores, contract.classes, frozenset(flags), days
        )

    def stratum(self, labels: Labels) -> int | None:
        """The class with most pixels."""
        return prevailing_class(labels)

    def masked(self, answer: SeriesSegmentation, valid: Callable[[], Mask]) -> SeriesSegmentation:
        """Take back what is said where no sensor had a valid pixel on any date."""
        height, width = answer.label.shape
        seen = valid().reshape(-1, height, width).any(axis=0)
        if seen.all():
            return answer
        label, confidence = (
            np.where(seen, image, np.uint8(NODATA)) for image in (answer.label, answer.confidence)
        )
        return replace(answer, label=label, confidence=confidence)

    def without_pixels(self, flags: Set[Flag], contract: Contract) -> SeriesSegmentation:
        """Return no class: `NODATA` everywhere, no date seen."""
        grid = contract.sample.height, contract.sample.width
        nothing = np.full(grid, NODATA, np.uint8)
        scores = np.zeros((len(contract.classes), *grid), np.uint8)
        unseen = dict.fromkeys(contract.modalities, (0.0,) * (contract.sample.dates or 0))
        return SeriesSegmentation(
            nothing, nothing, scores, contract.classes, frozenset(flags), unseen
        )

    def is_same(self, first: SeriesSegmentation, second: SeriesSegmentation) -> bool:
        """Return whether two answers agree in nearly all labels, and in confidence."""
        same = (first.label == second.label).mean()
        change = np.abs(np.subtract(first.confidence, second.confidence, dtype=np.int16)).mean()
        return bool(same >= SAME_LABELS and change <= SAME_PERCENT)

    def map_layers(self, contract: Contract) -> tuple[str, ...]:
        """None."""
        return ()

    def map_masks(self, contract: Contract) -> tuple[Any, ...]:
        """None."""
        return ()

    def map_values(self, answer: SeriesSegmentation, contract: Contract) -> Floats | None:
        """Return ``(K, H, W)``: probabilities of each pixel."""
        if Flag.ALL_NODATA in answer.flags:
            return None
        return np.multiply(answer.scores, np.float32(1 / 255), dtype=np.float32)
