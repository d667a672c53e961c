"""A run of series segmentation: one network, taught by the labels of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from esccs_edge.contracts.modality import SampleSpec
from esccs_edge.errors import InputError

from ...datasets.series import SeriesDataset, require_split
from ...learning.overlap_losses import LOSSES
from ...learning.series.backbones import backbone
from ...learning.series.fcn3d import Fcn3d
from ...learning.series.utae import Utae
from ...samples.series_samples import FixedGaps, SeriesSamples, series_specs
from ...series_options import SeriesSegmentationOptions
from ..stage import Batch, Stage
from ..training_run import TrainingRun
from .shown import kept

#: Of stochastic gradient descent.
MOMENTUM = 0.9
#: By how much the network lowers the resolution.
COARSEST = 16


@dataclass(frozen=True)
class SegmentationNetworks:
    """What the stage has trained.

    Attributes:
        student: The network that is exported.
    """

    student: Fcn3d | Utae


class SegmentationStage(Stage[Fcn3d | Utae]):
    """One of `LOSSES` at every pixel whose class is known.

    Args:
        net: The network.
        sensor: Name of its input.
        options: Loss, optimizer and schedule.
    """

    def __init__(self, net: Fcn3d | Utae, sensor: str, options: SeriesSegmentationOptions) -> None:
        super().__init__(net, options.schedule, "student", options.seed)
        self.sensor, self.options = sensor, options

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, and the share of its pixels that were right."""
        series, shares = kept(batch, (self.sensor,))
        logits, _ = self.net(*series, shares)
        target = batch["label"]
        known = target >= 0
        right = (logits.argmax(dim=1) == target)[known].float().mean()
        return LOSSES[self.options.loss](logits, target), {"accuracy": right}

    def configure_optimizers(  # type: ignore[override]  # no schedule beside a constant rate
        self,
    ) -> OptimizerLRSchedulerConfig | torch.optim.Optimizer:
        """AdamW as all stages, or plain gradient descent at a constant rate."""
        if self.options.optimizer == "adamw":
            return super().configure_optimizers()
        return torch.optim.SGD(
            self.net.parameters(), lr=self.schedule.learning_rate, momentum=MOMENTUM
        )


class SegmentationRun(TrainingRun):
    """A run with its one stage; see `TrainingRun`."""

    options: SeriesSegmentationOptions
    dataset: SeriesDataset

    @classmethod
    def open(
        cls, options: SeriesSegmentationOptions, dataset: SeriesDataset, folder: Path
    ) -> SegmentationRun:
        """Measure the contract on the training split; writes nothing.

        Raises:
            InputError: The sensor or a split is missing, or images are no multiple of 16.
        """
        require_split(dataset, "train", "val", "test")
        dates, height, width = dataset.size
        if height % COARSEST or width % COARSEST:
            raise InputError(
                f"{dataset.name} has series of {height} x {width} pixels, expected multiples of "
                f"{COARSEST}",
                hint="Cut the images; for single pixels train --task series-classification",
            )
        sensor: str = options.series.sensor or next(iter(dataset.channels))
        modalities = series_specs(dataset, (sensor,), options.seed)
        sample = SampleSpec(height, width, options.pixel_size_m, dates, dataset.calendar)
        return cls(options, dataset, folder, modalities, sample)

    def samples(self, split: str, gaps: FixedGaps | None = None) -> SeriesSamples:
        """Return a split with drawn gaps, or with fixed ones."""
        chosen = self.options.gaps if gaps is None else gaps
        return SeriesSamples(self.dataset, split, self.modalities, chosen, self.options.seed)

    def train_student(self) -> Fcn3d | Utae:
        """Train the network."""
        self.seed_weights("student")
        ((sensor, spec),) = self.modalities.items()
        sizes = self.options.network if self.options.backbone == "fcn3d" else None
        net = backbone(len(spec.channels), self.sample, len(self.dataset.classes), sizes)
        return self.fit(SegmentationStage(net, sensor, self.options), self.samples("train"))
