"""One class per pixel, from several modalities weighed by a gate at every pixel.

The trained network answers logits and shares in float32. Export adds the images that come back from
a device: label, confidence and share of optical in one byte per pixel each, and one byte per pixel
and class for whoever blends overlapping windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ...errors import BackendError, ManifestError
from ..task import Contract, MapMask, Measure, input_tensors, not_finite, prevailing_class
from ..tensor import NOT_FINITE, Tensor
from ..types import Array, Bytes, Floats, Labels, Mask
from ..values import NODATA, Flag
from .pixel_answer import PixelAnswer, require_classes_of_a_byte

#: Share of pixels that may change their class without another answer: near ties round either way in
#: low precision when the sample shares its batch with others.
SAME_LABELS = 0.98
#: Largest mean change of confidence and share, in percent, that is still the same answer.
SAME_PERCENT = 2.0

#: Where the share of optical is less, a pixel counts as affected by clouds.
HALF = 0.5


@dataclass(frozen=True)
class PixelGate:
    """How much each modality counted at each pixel, in percent; the two sum to 100.

    Attributes:
        optical: ``(H, W)`` uint8; `NODATA` where no modality has a pixel.
        sar: Likewise.
    """

    optical: Bytes
    sar: Bytes


@dataclass(frozen=True, repr=False)
class Segmentation(PixelAnswer):
    """The answer for one pair of patches; no pixel counts where no modality has a valid one.

    Attributes:
        gate: Share of each modality in the decision.
    """

    gate: PixelGate

    @property
    def cloud_affected(self) -> Mask:
        """``(H, W)``: where optical counted for less than half: under clouds, or absent."""
        return np.asarray(self.gate.optical < 100 * HALF)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `PixelAnswer`, and the mean share of optical."""
        return {**super().to_dict(), "mean_gate_optical": self.mean_share(self.gate.optical)}


class SemanticSegmentation:
    """Optical and SAR patch -> a class, its confidence and the share of optical at every pixel."""

    name = "semantic-segmentation"
    target: Literal["class", "map"] = "map"
    measure: Measure = "miou"
    network = "optical, SAR and cross streams with a gate per pixel (CloudSeg student)"

    def inputs(self, contract: Contract) -> tuple[Tensor, ...]:
        """``optical (N, C, H, W)``, ``sar (N, P, H, W)``, ``availability (N, 2)``."""
        if tuple(contract.modalities) != ("optical", "sar") or contract.sample.dates is not None:
            raise ManifestError(
                f"manifest field 'modalities' has {', '.join(contract.modalities)} on "
                f"{contract.sample.dates or 'no'} dates, expected optical, sar on no dates"
            )
        require_classes_of_a_byte(contract)
        return input_tensors(contract)

    def outputs(self, contract: Contract) -> tuple[Tensor, ...]:
        """``logits (N, K, H, W)`` and ``gate (N, 2, H, W)``.

        The gate sums to 1 at every pixel, and is exactly 0 for an absent modality.
        """
        grid = contract.sample.height, contract.sample.width
        logits = Tensor("logits", ("N", len(contract.classes), *grid), "logits")
        return logits, Tensor("gate", ("N", len(contract.modalities), *grid), "share")

    def returned(self, contract: Contract) -> tuple[Tensor, ...]:
        """``label``, ``confidence``, ``optical_share (N, H, W)`` and ``scores (N, K, H, W)``."""
        grid = contract.sample.height, contract.sample.width
        return (
            Tensor("label", ("N", *grid), "label"),
            Tensor("confidence", ("N", *grid), "confidence"),
            Tensor("optical_share", ("N", *grid), "percent"),
            Tensor("scores", ("N", len(contract.classes), *grid), "scores"),
        )

    def rows(self, outputs: Mapping[str, Array], contract: Contract) -> Sequence[Sequence[Array]]:
        """Return label, confidence, share of optical and scores of each patch."""
        return list(zip(*(outputs[tensor.name] for tensor in self.returned(contract)), strict=True))

    def answer(
        self, row: Sequence[Array], flags: Set[Flag], contract: Contract
    ) -> Segmentation | BackendError:
        """Return the images of one patch."""
        label, confidence, optical, scores = row
        if NOT_FINITE in (confidence.max(), optical.max()):
            return not_finite("sample")
        gate = PixelGate(optical, np.subtract(100, optical, dtype=np.uint8))
        return Segmentation(label, confidence, scores, contract.classes, frozenset(flags), gate)

    def stratum(self, labels: Labels) -> int | None:
        """The class with most pixels."""
        return prevailing_class(labels)

    def masked(self, answer: Segmentation, valid: Callable[[], Mask]) -> Segmentation:
        """Return the answer with `NODATA` where no modality has a valid pixel."""
        absent = ~valid()
        if not absent.any():
            return answer

        def without(image: Bytes) -> Bytes:
            return np.where(absent, np.uint8(NODATA), image)

        gate = PixelGate(without(answer.gate.optical), without(answer.gate.sar))
        return replace(
            answer, label=without(answer.label), confidence=without(answer.confidence), gate=gate
        )

    def without_pixels(self, flags: Set[Flag], contract: Contract) -> Segmentation:
        """Return no class: `NODATA` everywhere."""
        grid = contract.sample.height, contract.sample.width
        nothing = np.full(grid, NODATA, np.uint8)
        scores = np.zeros((len(contract.classes), *grid), np.uint8)
        gate = PixelGate(nothing, nothing)
        return Segmentation(nothing, nothing, scores, contract.classes, frozenset(flags), gate)

    def is_same(self, first: Segmentation, second: Segmentation) -> bool:
        """Return whether two answers agree in nearly all labels, and in confidence and gate."""
        same = (first.label == second.label).mean()
        pairs = ((first.confidence, second.confidence), (first.gate.optical, second.gate.optical))
        changes = [np.abs(np.subtract(a, b, dtype=np.int16)).mean() for a, b in pairs]
        return bool(same >= SAME_LABELS and max(changes) <= SAME_PERCENT)

    def map_layers(self, contract: Contract) -> tuple[str, ...]:
        """The share of the optical modality."""
        return ("gate_optical",)

    def map_masks(self, contract: Contract) -> tuple[MapMask, ...]:
        """Where optical counts for less than half: under clouds, or absent."""
        return (MapMask("cloud_affected", "gate_optical", HALF),)

    def map_values(self, answer: Segmentation, contract: Contract) -> Floats | None:
        """Return ``(K + 1, H, W)``: probabilities and the optical share of each pixel.

        What it returns where no modality has a pixel is not used.
        """
        if Flag.ALL_NODATA in answer.flags:
            return None
        values = np.empty((len(answer.scores) + 1, *answer.label.shape), np.float32)
        np.multiply(answer.scores, np.float32(1 / 255), out=values[:-1])
        np.multiply(np.minimum(answer.gate.optical, 100), np.float32(0.01), out=values[-1])
        return values
