"""What bundles answer on real chips, and how far a judge of the clear images agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from esccs_edge.contracts.types import Array, Labels
from esccs_edge.contracts.values import Prediction
from esccs_edge.errors import InputError

from ..datasets.triplets import Chips
from .agreement import JudgedChips, agreement, difference

if TYPE_CHECKING:
    from esccs_edge.classifier import Classifier

CHUNK = 64
BOTH = "cloudy + SAR"
#: Row -> which optical image is shown, and whether SAR is.
INPUTS: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {
        "clear optical": ("clear", False),
        "cloudy optical": ("cloudy", False),
        "SAR": ("", True),
        BOTH: ("cloudy", True),
        "clear + SAR": ("clear", True),
    }
)
#: Differences that say what fusing is worth.
COMPARED = ((BOTH, "cloudy optical"), (BOTH, "SAR"), ("clear + SAR", "clear optical"))


def judge_bundle(classifier: Classifier, chips: Chips, *, seed: int = 0) -> dict[str, Any]:
    """Judge one model on all chips that have a label.

    Args:
        classifier: Ready to answer.
        chips: Real chips with a judge's labels; see `clear_judge.with_judge`.
        seed: Of the draws of places.

    Returns:
        As `agreement.agreement`, and ``differences``: ``"a - b"`` -> as `agreement.difference`.

    Raises:
        InputError: No chip has a label, or the model lacks channels.
    """
    return judge_folds([(classifier, tuple(set(chips.groups)))], chips, seed=seed)


def judge_folds(
    models: Sequence[tuple[Classifier, Sequence[str]]], chips: Chips, *, seed: int = 0
) -> dict[str, Any]:
    """Judge models that each answer for the places that they were trained without.

    Args:
        models: Model and the places that it answers for; together they name each place once.
        chips: Real chips with a judge's labels.
        seed: Of the draws of places.

    Returns:
        As `judge_bundle`.

    Raises:
        InputError: A place is named by no model or by two; else as `judge_bundle`.
    """
    known = np.flatnonzero(chips.labels >= 0)
    if not known.size:
        raise InputError(f"no chip of {chips.name} has a label", hint="Give the judge's file")
    places = np.array(chips.groups)[known]
    named = [place for _, part in models for place in part]
    if sorted(named) != sorted(set(named)) or set(places) - set(named):
        raise InputError(
            f"models answer for {sorted(named)}, expected each of {sorted(set(places))} once"
        )
    answers = {name: np.full(len(known), -1, np.int64) for name in INPUTS}
    for classifier, part in models:
        inside = np.isin(places, list(part))
        for name, (optical, sar) in INPUTS.items():
            answers[name][inside] = _asked(classifier, chips, known[inside], optical, sar)
    judged = JudgedChips(chips.labels[known], places, chips.covers[known], chips.classes)
    return compared(judged, answers, seed=seed)


def compared(
    judged: JudgedChips, answers: Mapping[str, Labels], *, seed: int = 0
) -> dict[str, Any]:
    """Return the agreement of all rows, and ``differences`` of those in `COMPARED`."""
    differences = {
        f"{a} - {b}": difference(judged, answers[a], answers[b], seed=seed) for a, b in COMPARED
    }
    return {**agreement(judged, answers, seed=seed), "differences": differences}


def _asked(
    classifier: Classifier, chips: Chips, indices: Labels, optical: str, sar: bool
) -> Labels:
    """Answer some chips; return positions in the chips' classes, -1 for none of them."""
    place = {name: i for i, name in enumerate(chips.classes)}
    modalities = classifier.manifest.modalities
    bands = _order(chips.optical_channels, modalities["optical"].channels)
    polarizations = _order(chips.sar_channels, modalities["sar"].channels)
    found: list[int] = []
    for start in range(0, len(indices), CHUNK):
        opticals: list[Array | None] = []
        sars: list[Array | None] = []
        for i in indices[start : start + CHUNK].tolist():
            cloudy, radar = chips.pair(i)
            shown = chips.clear(i) if optical == "clear" else cloudy
            opticals.append(shown[bands] if optical and shown is not None else None)
            sars.append(radar[polarizations] if sar and radar is not None else None)
        for answer in classifier.classify_batch(opticals, sars):
            found.append(place.get(answer.label, -1) if isinstance(answer, Prediction) else -1)
    return np.array(found, np.int64)


def _order(found: Sequence[str], wanted: Sequence[str]) -> list[int]:
    if missing := [name for name in wanted if name not in found]:
        raise InputError(f"the chips lack {', '.join(missing)}, which the model needs")
    return [list(found).index(name) for name in wanted]
