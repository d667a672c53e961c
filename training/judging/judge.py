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
from torch import Tensor
from torch.utils.data import DataLoader

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range
from esccs_edge.errors import InputError

from ..samples.degraded import Degradation
from ..samples.samples import CloudySamples
from ..stages.scene_classification.run import SceneRun
from ..stages.stage import Batch
from .metrics import scores_by_cloud
from .temperature import fit_temperature

BATCH_SIZE = 64
#: Batch -> probabilities ``(N, K)``.
Predictor = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Judged:
    """What a network answered on held-out pairs, beside the truth.

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

    def tempered(self, temperature: float) -> Judged:
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


def held_out(run: SceneRun, split: str, *, clear: bool = False) -> list[CloudySamples]:
    """Return a split as tensors: clear, or each image at one cover per cloud bin.

    Where the run takes the images as they are, so does the judgment. Missing SAR is simulated from
    the optical image alone.
    """
    judged = Degradation(cover=0.0, textures=run.textures, sar="from pixels")
    if clear or not run.options.clouds.simulate:
        return [run.samples(judged, split)]
    return [
        run.samples(replace(judged, cover=bin_range(position)), split)
        for position in range(len(CLOUD_BINS))
    ]


def simulated_parts(run: SceneRun) -> list[str]:
    """Return what of judged pairs is simulated, as `evaluate` names it."""
    parts = {"sar": not run.dataset.sar_channels, "clouds": run.options.clouds.simulate}
    return [name for name, is_simulated in parts.items() if is_simulated]


def has_labels(run: SceneRun, split: str) -> bool:
    """Return whether a split holds a pair that can be judged."""
    chosen = np.asarray(run.dataset.splits) == split
    return bool((np.asarray(run.dataset.labels)[chosen] >= 0).any())


def batches(samples: CloudySamples) -> Iterator[Batch]:
    """Iterate over the labeled pairs of a sample set, in order."""
    for batch in DataLoader(samples, BATCH_SIZE):
        known = batch["label"] >= 0
        if known.any():
            yield {name: value[known] for name, value in batch.items()}


@torch.no_grad()
def judge(predict: Predictor, parts: list[CloudySamples]) -> Judged:
    """Ask a network about held-out pairs.

    Raises:
        InputError: None of them has a label.
    """
    labels, probabilities, covers = [], [], []
    for samples in parts:
        recorded = samples.pairs.dataset.covers
        is_simulated = samples.pairs.degradation.cover != 0.0
        for batch in batches(samples):
            labels.append(batch["label"].numpy())
            probabilities.append(predict(batch).double().numpy())
            index = batch["index"].numpy()
            covers.append(batch["cover"].double().numpy() if is_simulated else recorded[index])
    if not labels:
        raise InputError(
            f"{parts[0].pairs.dataset.name} has no labeled pair to judge on",
            hint="Give the held-out pairs labels",
        )
    return Judged(np.concatenate(labels), np.concatenate(probabilities), np.concatenate(covers))
