"""What the run of any task has: options, data, measured contracts, a folder for its stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from esccs_edge.contracts.modality import Modalities, SampleSpec

from ..datasets.dataset import Dataset
from ..options import RunOptions
from ..samples.epoch_samples import EpochSamples
from .fit import fit
from .stage import N, Stage, epoch_seed


@dataclass(frozen=True)
class TrainingRun:
    """A run; a task adds one method per stage of its own.

    Attributes:
        options: The run's options.
        dataset: All splits.
        folder: Where checkpoints and logs are kept.
        modalities: Contract of each modality, measured on the training split.
        sample: The grid of a sample.
    """

    options: RunOptions
    dataset: Dataset
    folder: Path
    modalities: Modalities
    sample: SampleSpec

    def seed_weights(self, stage: str) -> None:
        """Fix the initial weights of a stage by its name, whatever ran before it."""
        torch.manual_seed(epoch_seed(self.options.seed, stage, -1))

    def fit(self, stage: Stage[N], samples: EpochSamples) -> N:
        """Train a stage, go on where it stopped, or load it; see `fit.fit`."""
        return fit(stage, samples, self.folder, self.options.precision)
