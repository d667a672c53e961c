"""What the run of any task has: options, data, measured contracts, a folder for its stages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from esccs_edge.contracts.modality import Modalities, SampleSpec

from ..datasets.dataset import Dataset
from ..learning.initial_weights import InitialWeights
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
        initial: What the student starts at, or None.
    """

    options: RunOptions
    dataset: Dataset
    folder: Path
    modalities: Modalities
    sample: SampleSpec
    initial: InitialWeights | None = field(default=None, kw_only=True)

    def seed_weights(self, stage: str) -> None:
        """Fix the initial weights of a stage by its name, whatever ran before it."""
        torch.manual_seed(epoch_seed(self.options.seed, stage, -1))

    def initial_parts(self, stage: str) -> Mapping[str, str] | None:
        """Return what a stage takes of the initial weights; see `InitialWeights.start`.

        None stands for all of the student; an empty mapping for nothing.
        """
        return None if stage == "student" else {}

    def fit(self, stage: Stage[N], samples: EpochSamples) -> N:
        """Train a stage, go on where it stopped, or load it; see `fit.fit`."""
        if self.initial is not None:
            parts = self.initial_parts(stage.name)
            starts = [self.initial.start(net, parts) for net in (stage.net, stage.average)]
            where = f"at {self.initial.bundle.folder}" if all(starts) else "anew"
            print(f"{stage.name} starts {where}", file=sys.stderr, flush=True)
        return fit(stage, samples, self.folder, self.options)
