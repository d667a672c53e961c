"""How good a finished bundle is on a labeled data set, through the public runtime.

Overall and by cloud cover. Clouds are simulated on request, each image at one cover per bin;
otherwise the images are judged as they are and the recorded cover, if any, decides the bin. SAR is
simulated on request too, from the optical image alone: nothing here may know the label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.types import Array
from esccs_edge.contracts.values import Prediction
from esccs_edge.errors import EsccsError, InputError

from ..datasets import PairDataset
from ..samples.degraded import Degradation, DegradedPair, DegradedPairs, SarSource
from ..samples.usable import require_judgeable
from .metrics import FAILED, confusion_matrix, scores_by_cloud
from .risk_coverage import risk_coverage

if TYPE_CHECKING:
    from esccs_edge.classifier import Classifier

CHUNK = 64

Modality = Literal["optical", "sar"]


def evaluate(
    classifier: Classifier,
    dataset: PairDataset,
    *,
    clouds_seeds: Sequence[int] = (),
    split: str = "test",
    only: Modality | None = None,
    simulate_sar: bool = False,
) -> dict[str, Any]:
    """Judge a classifier; a data set without SAR is judged on optical alone, unless asked.

    Args:
        classifier: Ready to answer.
        dataset: Labeled pairs; pairs without a label are left out.
        clouds_seeds: Simulate clouds from these seeds, each pair once per seed and cloud bin; none
            takes the images as they are.
        split: Which pairs.
        only: Show the model one modality and hold the other back.
        simulate_sar: Simulate the SAR that the data set lacks, from its clear optical pixels.

    Returns:
        ``{"overall": {...}, "by_cloud": {"0-20": {...}, ...}, "risk_coverage": {...},
        "confusion": [[...], ...], "simulated": [...]}``, the first two as `metrics.scores` gives
        them, the third as `risk_coverage`. ``confusion`` counts
        pairs by true class (rows) and answer (columns; the last: none); ``simulated`` names
        ``"sar"`` and ``"clouds"`` where they were, here or by whoever wrote the data set. A pair
        without an answer (no usable pixel, or a failure) is wrong and counted in ``failed``.

    Raises:
        InputError: No labeled pair in the split, classes or channels that the model lacks, SAR to
            simulate where there is SAR, SAR alone to judge where there is none, or a pair that the
            model refuses.
    """
    classes = len(classifier.manifest.classes)
    asked = list(
        answered_pairs(
            classifier, dataset, clouds_seeds=clouds_seeds, split=split, only=only,
            simulate_sar=simulate_sar,
        )
    )  # fmt: skip
    truth = np.array([pair.label for pair in asked], np.int64)
    answered = np.array([pair.found for pair in asked], np.int64)
    confidence = np.array([pair.confidence for pair in asked])
    covers = np.array([pair.cover for pair in asked], np.float64)
    scores = scores_by_cloud(truth, answered, confidence, covers, classes)
    confusion = confusion_matrix(truth, answered, classes).tolist()
    simulated = simulated_parts(dataset, clouds_seeds, only, simulate_sar)
    kept = risk_coverage(confidence, truth == answered)
    return {**scores, "risk_coverage": kept, "confusion": confusion, "simulated": simulated}


class AnsweredPair(NamedTuple):
    """One pair that was judged.

    Attributes:
        pair: What the model was shown, its group and its position in the data set.
        cover: Share of it under cloud; NaN where it is not known.
        label: Position of its class among those of the model.
        found: Position of the answered class; `FAILED` without an answer.
        confidence: Of the answer; 0 without one.
        answer: The answer, or why there is none.
    """

    pair: DegradedPair
    cover: float
    label: int
    found: int
    confidence: float
    answer: Prediction | EsccsError


def answered_pairs(
    classifier: Classifier,
    dataset: PairDataset,
    *,
    clouds_seeds: Sequence[int] = (),
    split: str = "test",
    only: Modality | None = None,
    simulate_sar: bool = False,
) -> Iterator[AnsweredPair]:
    """Show the labeled pairs of a split to a classifier; arguments and errors as `evaluate`."""
    manifest = classifier.manifest
    place = _class_places(dataset, manifest)
    channels = channel_order(
        dataset.optical_channels, manifest.modalities["optical"].channels, "optical"
    )
    polarizations = channel_order(dataset.sar_channels, manifest.modalities["sar"].channels, "SAR")
    _check_sar(dataset, only, simulate_sar)
    shown = np.flatnonzero(
        (np.asarray(dataset.splits) == split) & (np.asarray(dataset.labels) >= 0)
    )
    if not len(shown):
        raise InputError(
            f"{dataset.name} has no labeled pair in split {split!r}", hint="Choose another --split"
        )
    require_judgeable(dataset, shown.tolist(), manifest.modalities, manifest.sample, only)
    pairs = _pairs(dataset, split, clouds_seeds, "from pixels" if simulate_sar else "absent")
    while chunk := list(islice(pairs, CHUNK)):
        answers = classifier.classify_batch(
            [_selected(pair.optical, channels) if only != "sar" else None for pair, _ in chunk],
            [
                _selected(pair.sar, polarizations) if only != "optical" else None
                for pair, _ in chunk
            ],
        )
        for (pair, cover), answer in zip(chunk, answers, strict=True):
            found, sure = _answer_of(answer, manifest.classes)
            yield AnsweredPair(pair, cover, place[pair.label], found, sure, answer)


def simulated_words(simulated: Sequence[str]) -> str:
    """Return what a report's ``simulated`` names, in words; empty where all is real."""
    words = {"sar": "SAR (from optical pixels, never from labels)", "clouds": "clouds"}
    return ", ".join(words[name] for name in simulated)


def _check_sar(dataset: PairDataset, only: Modality | None, simulate_sar: bool) -> None:
    if simulate_sar and dataset.sar_channels:
        raise InputError(
            f"{dataset.name} has SAR, so none is simulated", hint="Leave out --simulate-sar"
        )
    if only == "sar" and not dataset.sar_channels and not simulate_sar:
        raise InputError(
            f"{dataset.name} has no SAR to judge alone",
            hint="Add --simulate-sar to simulate it from the optical images",
        )


def simulated_parts(
    dataset: PairDataset, clouds_seeds: Sequence[int], only: Modality | None, simulate_sar: bool
) -> list[str]:
    """What of the pairs that were shown is simulated."""
    recorded: Sequence[str] = getattr(dataset, "simulated", ())
    found = []
    if only != "optical" and (simulate_sar or "sar" in recorded):
        found.append("sar")
    if only != "sar" and (clouds_seeds or "clouds" in recorded):
        found.append("clouds")
    return found


def _pairs(
    dataset: PairDataset, split: str, clouds_seeds: Sequence[int], sar: SarSource
) -> Iterator[tuple[DegradedPair, float]]:
    """Yield labeled pairs and their cover, NaN where it is not known."""
    if not clouds_seeds:
        recorded = dataset.covers
        for pair in DegradedPairs(dataset, split, Degradation(cover=0.0, sar=sar)).labeled():
            yield pair, float(recorded[pair.index])
        return
    for seed, position in product(clouds_seeds, range(len(CLOUD_BINS))):
        degradation = Degradation(cover=bin_range(position), sar=sar)
        for pair in DegradedPairs(dataset, split, degradation, seed).labeled():
            # The cover inside a bin is exact to a pixel; a draw at its edge stays in the bin.
            low, high = bin_range(position)
            yield pair, float(np.clip(pair.cover, low, np.nextafter(high, low)))


def _class_places(dataset: PairDataset, manifest: Manifest) -> list[int]:
    unknown = sorted(set(dataset.classes) - set(manifest.classes))
    if unknown:
        raise InputError(
            f"{dataset.name} has classes {unknown} that the model does not know, expected among "
            f"{list(manifest.classes)}"
        )
    return [manifest.classes.index(name) for name in dataset.classes]


def channel_order(found: Sequence[str], wanted: Sequence[str], what: str) -> list[int] | None:
    """Return the positions of the wanted channels, or None where nothing has to be picked.

    Raises:
        InputError: A wanted channel is not there.
    """
    if not found or tuple(found) == tuple(wanted):
        return None
    if missing := [name for name in wanted if name not in found]:
        raise InputError(
            f"the data set's {what} channels are {', '.join(found)}, the model also needs "
            f"{', '.join(missing)}"
        )
    return [list(found).index(name) for name in wanted]


def _selected(pixels: Array | None, order: list[int] | None) -> Array | None:
    return pixels if pixels is None or order is None else pixels[order]


def _answer_of(answer: Prediction | Exception, classes: Sequence[str]) -> tuple[int, float]:
    """Position of the answered class and its confidence; `FAILED` and 0 without an answer."""
    if not isinstance(answer, Prediction) or answer.label not in classes:
        return FAILED, 0.0
    return classes.index(answer.label), answer.confidence
