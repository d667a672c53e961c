"""One class per patch, from several modalities weighed by a gate.

A row of the outputs holds about ten numbers, so it is worked off without NumPy, whose calls would
take several times as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Literal

import numpy as np

from ...errors import BackendError, ManifestError
from ..task import Contract, MapMask, Measure, input_tensors, not_finite, prevailing_class
from ..tensor import Tensor
from ..types import Array, Floats, Labels, Mask
from ..values import NODATA_LABEL, Flag, Gate, Prediction

#: Largest change of a probability or gate weight that is still the same answer. Low-precision
#: arithmetic may round differently when the sample shares its batch with others.
SAME_ANSWER_ATOL = 0.02

_UNFAMILIAR: Set[Flag] = frozenset({Flag.UNFAMILIAR})
_NO_FLAG: Set[Flag] = frozenset()

#: Logits, gate and distances of one patch; no distances where the network answers none.
Row = tuple[list[float], list[float], Sequence[float]]


class SceneClassification:
    """Optical and SAR patch -> class, probabilities and gate."""

    name = "scene-classification"
    target: Literal["class", "map"] = "class"
    measure: Measure = "balanced_accuracy"
    network = "two-branch residual CNN with modality gate (ESCCS student)"

    def inputs(self, contract: Contract) -> tuple[Tensor, ...]:
        """``optical (N, C, H, W)``, ``sar (N, P, H, W)``, ``availability (N, 2)``."""
        if tuple(contract.modalities) != ("optical", "sar") or contract.sample.dates is not None:
            raise ManifestError(
                f"manifest field 'modalities' has {', '.join(contract.modalities)} on "
                f"{contract.sample.dates or 'no'} dates, expected optical, sar on no dates"
            )
        return input_tensors(contract)

    def outputs(self, contract: Contract) -> tuple[Tensor, ...]:
        """``logits (N, K)`` and ``gate (N, 2)``, whose rows sum to 1 or are 0.

        Where the manifest says which distances are familiar, ``distance (N, 2)`` too.
        """
        per_modality = ("N", len(contract.modalities))
        logits = Tensor("logits", ("N", len(contract.classes)), "logits")
        gate = Tensor("gate", per_modality, "share")
        if not contract.familiarity:
            return logits, gate
        return logits, gate, Tensor("distance", per_modality, "distance")

    def returned(self, contract: Contract) -> tuple[Tensor, ...]:
        """All outputs: ten numbers per patch."""
        return self.outputs(contract)

    def rows(self, outputs: Mapping[str, Array], contract: Contract) -> Sequence[Row]:
        """Return logits, gate and distances of each patch as plain numbers."""
        logits, gates = outputs["logits"].tolist(), outputs["gate"].tolist()
        known = contract.familiarity
        distances = outputs["distance"].tolist() if known else [()] * len(logits)
        return list(zip(logits, gates, distances, strict=True))

    def answer(self, row: Row, flags: Set[Flag], contract: Contract) -> Prediction | BackendError:
        """Return the most probable class; `Flag.UNFAMILIAR` if a modality is too far off."""
        logits, gate, distances = row
        if not math.isfinite(sum(logits) + sum(gate) + sum(distances)):
            return not_finite("sample")
        probabilities = softmax(logits, contract.temperature)
        confidence = max(probabilities)
        return Prediction(
            label=contract.classes[probabilities.index(confidence)],
            confidence=confidence,
            probabilities=dict(zip(contract.classes, probabilities, strict=True)),
            gate=Gate(gate[0], gate[1]),
            flags=frozenset(flags | _unfamiliar(distances, contract)),
        )

    def stratum(self, labels: Labels) -> int | None:
        """The class with most pixels, should a patch come with a map."""
        return prevailing_class(labels)

    def masked(self, answer: Prediction, valid: Callable[[], Mask]) -> Prediction:
        """Return the answer: it is one for the whole patch."""
        return answer

    def without_pixels(self, flags: Set[Flag], contract: Contract) -> Prediction:
        """Return no class: `NODATA_LABEL` and zeros."""
        nothing = dict.fromkeys(contract.classes, 0.0)
        return Prediction(NODATA_LABEL, 0.0, nothing, Gate(0.0, 0.0), frozenset(flags))

    def is_same(self, first: Prediction, second: Prediction) -> bool:
        """Return whether two answers agree in label, probabilities and gate."""
        return first.label == second.label and np.allclose(
            list(_numbers(first)), list(_numbers(second)), rtol=0, atol=SAME_ANSWER_ATOL
        )

    def map_layers(self, contract: Contract) -> tuple[str, ...]:
        """The share of the optical modality."""
        return ("gate_optical",)

    def map_masks(self, contract: Contract) -> tuple[MapMask, ...]:
        """None."""
        return ()

    def map_values(self, answer: Prediction, contract: Contract) -> Floats | None:
        """Return ``(K + 1,)``: probabilities and the optical share, for the whole patch."""
        if answer.label == NODATA_LABEL:
            return None
        values = [answer.probabilities[name] for name in contract.classes]
        return np.array([*values, answer.gate.optical], np.float32)


def softmax(logits: Sequence[float], temperature: float) -> list[float]:
    """Return probabilities of K finite logits divided by ``temperature`` (Guo et al., 2017)."""
    highest = max(logits)
    weights = [math.exp((logit - highest) / temperature) for logit in logits]
    total = sum(weights)
    return [weight / total for weight in weights]


def _unfamiliar(distances: Sequence[float], contract: Contract) -> Set[Flag]:
    for distance, known in zip(distances, contract.familiarity.values(), strict=False):
        if distance > known.threshold:
            return _UNFAMILIAR
    return _NO_FLAG


def _numbers(answer: Prediction) -> Iterable[float]:
    return (*answer.probabilities.values(), answer.gate.optical, answer.gate.sar)
