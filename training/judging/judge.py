"""How good a torch network is on held-out pairs, by cloud cover; used while training.

`evaluate` judges a finished bundle through the public runtime instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range
from esccs_edge.errors import InputError

from ..samples.recorded_covers import recorded_covers
from ..samples.samples import CloudySamples, Degradation
from ..stages.chain import Chain
from ..stages.stage import Batch
from .metrics import scores_by_cloud
from .temperature import fit_temperature

BATCH_SIZE = 64
#: Batch -> probabilities ``(N, K)``.
Predictor = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Answers:
    """What a network said about held-out pairs.

    Attributes:
        labels: ``(N,)`` true classes.
        probabilities: ``(N, K)``.
        cover: ``(N,)`` share of cloudy pixels, simulated or recorded; NaN where not known.
    """

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    cover: npt.NDArray[np.float64]

    def temperature(self) -> float:
        """Return the temperature under which the confidence fits the labels best."""
        return fit_temperature(self._logarithm(), self.labels)

    def tempered(self, temperature: float) -> Answers:
        """Return the answers with their confidence changed by a temperature."""
        scaled = torch.from_numpy(self._logarithm() / temperature)
        return replace(self, probabilities=torch.softmax(scaled, dim=1).numpy())

    def _logarithm(self) -> npt.NDArray[np.float64]:
        logarithm: npt.NDArray[np.float64] = np.log(np.maximum(self.probabilities, 1e-30))
        return logarithm

    def report(self) -> dict[str, Any]:
        """Return ``{overall, by_cloud}``; see `metrics.scores_by_cloud`."""
        return scores_by_cloud(
            self.labels,
            self.probabilities.argmax(axis=1),
            self.probabilities.max(axis=1),
            self.cover,
            self.probabilities.shape[1],
        )


def held_out(chain: Chain, split: str, *, clear: bool = False) -> list[CloudySamples]:
    """Return a split as tensors: clear, or each image at one cover per cloud bin.

    Where the run takes the images as they are, so does the judgment.
    """
    if clear or not chain.options.clouds.simulate:
        return [chain.samples(Degradation(cover=0.0), split)]
    return [
        chain.samples(Degradation(cover=bin_range(position), textures=chain.textures), split)
        for position in range(len(CLOUD_BINS))
    ]


def has_labels(chain: Chain, split: str) -> bool:
    """Say whether a split holds a pair that can be judged."""
    chosen = np.asarray(chain.source.splits) == split
    return bool((np.asarray(chain.source.labels)[chosen] >= 0).any())


def batches(samples: CloudySamples) -> Iterator[Batch]:
    """Iterate over the labeled pairs of a sample set, in order."""
    for batch in DataLoader(samples, BATCH_SIZE):
        known = batch["label"] >= 0
        if known.any():
            yield {name: value[known] for name, value in batch.items()}


@torch.no_grad()
def judge(predict: Predictor, parts: list[CloudySamples]) -> Answers:
    """Ask a network about held-out pairs.

    Raises:
        InputError: None of them has a label.
    """
    labels, probabilities, covers = [], [], []
    for samples in parts:
        recorded = recorded_covers(samples.pairs.source)
        is_simulated = samples.pairs.degradation.cover != 0.0
        for batch in batches(samples):
            labels.append(batch["label"].numpy())
            probabilities.append(predict(batch).double().numpy())
            index = batch["index"].numpy()
            covers.append(batch["cover"].double().numpy() if is_simulated else recorded[index])
    if not labels:
        raise InputError(
            f"{parts[0].pairs.source.name} has no labeled pair to judge on",
            hint="Give the held-out pairs labels",
        )
    return Answers(np.concatenate(labels), np.concatenate(probabilities), np.concatenate(covers))


def unimodal(net: nn.Module, view: str) -> Predictor:
    """Predict from one view: ``"clear"``, ``"optical"`` or ``"sar"``."""
    return lambda batch: torch.softmax(net(batch[view]), dim=1)


def bimodal(net: nn.Module, *, use_optical: bool = True, use_sar: bool = True) -> Predictor:
    """Predict with the student; a modality that is not used is handed in as absent."""
    used = torch.tensor([use_optical, use_sar], dtype=torch.float32)

    def predict(batch: Batch) -> Tensor:
        logits, _ = net(
            batch["optical"] * used[0], batch["sar"] * used[1], batch["availability"] * used
        )
        return torch.softmax(logits, dim=1)

    return predict


def gates(net: nn.Module) -> Predictor:
    """Ask the student for its modality weights ``(N, 2)``, optical first, instead of classes."""
    return lambda batch: net(batch["optical"], batch["sar"], batch["availability"])[1]
