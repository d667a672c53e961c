"""One class per pixel series: optical and SAR over a season, with gaps.

A date is missing where none of its pixels is valid by the rule of `ModalitySpec`; preprocessing
makes such pixels 0 in every channel, and the network sees by that which dates are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ...errors import BackendError, ManifestError
from ..task import Contract, Measure, input_tensors, not_finite, prevailing_class
from ..tensor import Tensor
from ..types import Array, Floats, Labels, Mask
from ..values import NODATA_LABEL, Flag, Gate, Prediction
from .scene_classification import SAME_ANSWER_ATOL, softmax

#: The sensors that a series may have, in the order of the manifest.
SENSORS = ("optical", "sar")

#: Logits, gate and seen dates of one series.
Row = tuple[list[float], list[float], list[list[bool]]]


@dataclass(frozen=True, repr=False)
class SeriesPrediction(Prediction):
    """The answer for one series.

    Attributes:
        seen: Sensor -> for each date of the calendar, whether it had a valid pixel.
    """

    seen: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)

    def missing_share(self, sensor: str) -> float:
        """Return the share of dates on which a sensor saw nothing."""
        return 1 - sum(self.seen[sensor]) / len(self.seen[sensor])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `Prediction`, and ``seen``."""
        return {**super().to_dict(), "seen": {name: list(days) for name, days in self.seen.items()}}


class SeriesClassification:
    """Series of optical, SAR or both -> class, probabilities, gate, and which dates were seen."""

    name = "series-classification"
    target: Literal["class", "map"] = "class"
    measure: Measure = "balanced_accuracy"
    network = "temporal network with feature reconstruction at missing dates (Joint-FRP student)"

    def inputs(self, contract: Contract) -> tuple[Tensor, ...]:
        """``optical (N, C, T, 1)``, ``sar (N, P, T, 1)`` or one of them, ``availability (N, M)``.

        Raises:
            ManifestError: Other modalities, no dates, or more than one pixel.
        """
        require_series(contract)
        if (contract.sample.height, contract.sample.width) != (1, 1):
            raise ManifestError(
                f"manifest field 'sample' has {contract.sample.height} x {contract.sample.width} "
                "pixels, expected 1 x 1: a series of images is a series-segmentation"
            )
        return input_tensors(contract)

    def outputs(self, contract: Contract) -> tuple[Tensor, ...]:
        """``logits (N, K)``, ``gate (N, M)`` and ``seen (N, M, T)``.

        The gate sums to 1 and is 0 for an absent sensor; ``seen`` is 1 on dates with a valid pixel.
        """
        sensors = len(contract.modalities)
        return (
            Tensor("logits", ("N", len(contract.classes)), "logits"),
            Tensor("gate", ("N", sensors), "share"),
            seen_tensor(contract),
        )

    def returned(self, contract: Contract) -> tuple[Tensor, ...]:
        """All outputs."""
        return self.outputs(contract)

    def rows(self, outputs: Mapping[str, Array], contract: Contract) -> Sequence[Row]:
        """Return logits, gate and seen dates of each series as plain numbers."""
        plain = (outputs["logits"], outputs["gate"], outputs["seen"] > 0)
        return list(zip(*(array.tolist() for array in plain), strict=True))

    def answer(
        self, row: Row, flags: Set[Flag], contract: Contract
    ) -> SeriesPrediction | BackendError:
        """Return the most probable class."""
        logits, shares, seen = row
        if not math.isfinite(sum(logits) + sum(shares)):
            return not_finite("series")
        probabilities = softmax(logits, contract.temperature)
        confidence = max(probabilities)
        days = [tuple(of_sensor) for of_sensor in seen]
        return SeriesPrediction(
            label=contract.classes[probabilities.index(confidence)],
            confidence=confidence,
            probabilities=dict(zip(contract.classes, probabilities, strict=True)),
            gate=_gate(contract, shares),
            flags=frozenset(flags),
            seen=dict(zip(contract.modalities, days, strict=True)),
        )

    def stratum(self, labels: Labels) -> int | None:
        """The class with most pixels, should a series come with a map."""
        return prevailing_class(labels)

    def masked(self, answer: SeriesPrediction, valid: Callable[[], Mask]) -> SeriesPrediction:
        """Return the answer as it is: missing dates leave its one class standing."""
        return answer

    def without_pixels(self, flags: Set[Flag], contract: Contract) -> SeriesPrediction:
        """Return no class: `NODATA_LABEL` and zeros, no date seen."""
        nothing = dict.fromkeys(contract.classes, 0.0)
        unseen = dict.fromkeys(contract.modalities, (False,) * (contract.sample.dates or 0))
        gate = Gate(0.0, 0.0)
        return SeriesPrediction(NODATA_LABEL, 0.0, nothing, gate, frozenset(flags), unseen)

    def is_same(self, first: SeriesPrediction, second: SeriesPrediction) -> bool:
        """Return whether two answers agree in label, seen dates, probabilities and gate."""
        return (first.label, first.seen) == (second.label, second.seen) and np.allclose(
            _numbers(first), _numbers(second), rtol=0, atol=SAME_ANSWER_ATOL
        )

    def map_layers(self, contract: Contract) -> tuple[str, ...]:
        """The share of the optical sensor, where there are two."""
        return ("gate_optical",) if len(contract.modalities) > 1 else ()

    def map_masks(self, contract: Contract) -> tuple[Any, ...]:
        """None."""
        return ()

    def map_values(self, answer: SeriesPrediction, contract: Contract) -> Floats | None:
        """Return probabilities and the optical share, ``(K + 1,)``."""
        if answer.label == NODATA_LABEL:
            return None
        shares = [answer.gate.optical] if len(contract.modalities) > 1 else []
        return np.array([*answer.probabilities.values(), *shares], np.float32)


def require_series(contract: Contract) -> None:
    """Refuse contracts that are no time series of the known sensors.

    Raises:
        ManifestError: Other modalities, or no dates.
    """
    names = tuple(contract.modalities)
    if contract.sample.dates is None or names not in (SENSORS, SENSORS[:1], SENSORS[1:]):
        raise ManifestError(
            f"manifest field 'modalities' has {', '.join(names)} on "
            f"{contract.sample.dates or 'no'} dates, expected optical, sar or both on dates"
        )


def seen_tensor(contract: Contract) -> Tensor:
    """Return ``seen (N, M, T)``: share of valid pixels of each sensor on each date."""
    return Tensor("seen", ("N", len(contract.modalities), contract.sample.dates or 0), "share")


def _gate(contract: Contract, shares: Sequence[float]) -> Gate:
    found = dict(zip(contract.modalities, shares, strict=True))
    return Gate(found.get("optical", 0.0), found.get("sar", 0.0))


def _numbers(answer: SeriesPrediction) -> list[float]:
    return [*answer.probabilities.values(), answer.gate.optical, answer.gate.sar]
