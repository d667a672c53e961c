"""How networks of series are judged: at missing rates, by patterns, with one sensor or both.

All networks see the same masks. The rate 0 shows the series as they are, with their real gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from esccs_edge.contracts.types import Doubles, Labels

from ..samples.series_samples import FixedGaps, SeriesSamples
from ..simulate.missing_dates import PATTERNS, Pattern
from ..stages.series.shown import availability, kept
from .metrics import scores

RATES = (0.0, 0.1, 0.3, 0.5, 0.7)
BATCH_SIZE = 256

#: Sensors and availability -> logits.
Answerer = Callable[[Sequence[Tensor], Tensor], Tensor]


@dataclass(frozen=True)
class Answered:
    """What one network said of a split that was shown in one way.

    Attributes:
        network: Its name.
        shown: The sensors it saw, joined by ``+``.
        pattern: Which dates were missing.
        rate: Share of the optical dates that were.
        logits: ``(N, K)``.
        labels: ``(N,)``; -1 is not known.
    """

    network: str
    shown: str
    pattern: Pattern
    rate: float
    logits: Doubles
    labels: Labels


def judge_series(answered: Iterable[Answered], classes: int) -> dict[str, Any]:
    """Return ``{network: {shown: {pattern: {rate: scores}}}}``.

    Args:
        answered: As `answered_series` yields it.
        classes: K.
    """
    found: dict[str, Any] = {}
    for one in answered:
        row = found.setdefault(one.network, {}).setdefault(one.shown, {})
        row.setdefault(one.pattern, {})[f"{one.rate:g}"] = _scores(one.logits, one.labels, classes)
    return found


def answered_series(
    networks: Mapping[str, Answerer], samples: SeriesSamples, sensors: Sequence[str]
) -> Iterator[Answered]:
    """Ask all networks at all `RATES` and `PATTERNS`, under the same masks.

    Args:
        networks: By name.
        samples: The split to judge; its own gaps do not count.
        sensors: Names of the inputs; each is also shown alone where there are several.
    """
    shown_sets = {"+".join(sensors): set(sensors)}
    shown_sets |= {name: {name} for name in sensors} if len(sensors) > 1 else {}
    for pattern, rate in product(PATTERNS, RATES):
        whole, labels = collated(samples.with_gaps(FixedGaps(rate, pattern)), sensors)
        for shown, names in shown_sets.items():
            series = [
                one if name in names else one * 0 for name, one in zip(sensors, whole, strict=True)
            ]
            for name, network in networks.items():
                with torch.no_grad():
                    logits = answers(network, series)
                yield Answered(name, shown, pattern, rate, logits, labels)


def answers(network: Answerer, series: Sequence[Tensor]) -> Doubles:
    """Return the logits ``(N, K)`` of a network for whole splits of series."""
    parts = [
        network(part, availability(part))
        for start in range(0, len(series[0]), BATCH_SIZE)
        if (part := [one[start : start + BATCH_SIZE] for one in series])
    ]
    return torch.cat(parts).double().numpy()


def collated(samples: SeriesSamples, sensors: Sequence[str]) -> tuple[list[Tensor], Labels]:
    """Return all series of a split with their gaps, and the labels ``(N,)``."""
    batch = default_collate([samples[i] for i in range(len(samples))])
    return kept(batch, sensors)[0], batch["label"].numpy()


def _scores(logits: Doubles, labels: Labels, classes: int) -> dict[str, Any]:
    known = labels >= 0
    logits, labels = logits[known], labels[known]
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1)
    return scores(labels, logits.argmax(axis=1), confidence, classes)
