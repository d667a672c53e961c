"""Teacher -> SAR auxiliary -> optical auxiliary -> student, each trained once per run folder.

`run.train` goes through all of it; `compare` asks for what its methods share. Every method below
trains its step, goes on where it stopped, or loads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.errors import InputError

from ..datasets import PairSource
from ..learning.losses import soften
from ..learning.networks import UnimodalNet
from ..learning.pseudo_labels import PseudoLabelFilter, filter_report
from ..options import TrainOptions
from ..samples.samples import CloudySamples, Degradation, modality_specs
from ..samples.transfer_parts import source_and_target
from ..simulate.textures import CloudTextures
from .auxiliary import OpticalAuxiliaryStep, SarAuxiliaryStep
from .fit import class_weights, fit
from .stage import Batch, epoch_seed
from .student import StudentStep
from .teacher import TeacherStep
from .teacher_answers import AllViews, EachView


class Chain:
    """The trained networks of one run.

    Args:
        options: The run.
        source: Data set; the steps learn on its training split, all on the whole of it or, with
            ``options.target_share``, the source model on one part of its groups (clear, labeled)
            and all others on the rest (cloudy, labels hidden).
        folder: Where checkpoints and logs are kept.

    Raises:
        InputError: The training split has labels of fewer than two classes, lacks a modality, or
            the cloud textures cannot be read.
    """

    def __init__(self, options: TrainOptions, source: PairSource, folder: Path) -> None:
        self.options = options
        self.source = source
        self.folder = folder
        share = options.target_share
        parts = source_and_target(source, share, options.seed) if share else (source, source)
        self.source_part, self.target_part = parts
        self._check_labels()
        clouds = options.clouds
        self.textures = CloudTextures.read(clouds.textures) if clouds.textures else None
        self.optical_spec, self.sar_spec = self._specs()
        self._kept: dict[tuple[int, str, Degradation], CloudySamples] = {}

    @cached_property
    def teacher(self) -> UnimodalNet:
        """The source model."""
        self.seed_weights("teacher")
        step = TeacherStep(len(self.optical_spec.channels), self.label_weights(), self.options)
        clear = self.source_samples(Degradation(cover=0.0, augment=True))
        return cast(UnimodalNet, fit(step, clear, self.folder))

    @cached_property
    def sar_auxiliary(self) -> UnimodalNet:
        """The auxiliary that sees SAR only."""
        source_view, pseudo_labels = self.source_view, self.pseudo_labels[0]
        self.seed_weights("sar-auxiliary")
        step = SarAuxiliaryStep(
            len(self.sar_spec.channels), self.label_weights(), self.options, source_view,
            pseudo_labels,
        )  # fmt: skip
        return cast(UnimodalNet, fit(step, self.cloudy_samples(), self.folder))

    @cached_property
    def optical_auxiliary(self) -> UnimodalNet:
        """The auxiliary that sees cloudy optical images only."""
        source_view, sar_auxiliary = self.source_view, self.sar_auxiliary
        self.seed_weights("optical-auxiliary")
        step = OpticalAuxiliaryStep(
            len(self.optical_spec.channels), self.label_weights(), self.options, source_view,
            sar_auxiliary,
        )  # fmt: skip
        if self.options.warm_start:
            step.start_at(self.teacher)
        return cast(UnimodalNet, fit(step, self.cloudy_samples(), self.folder))

    @cached_property
    def student(self) -> nn.Module:
        """The deliverable."""
        return self.student_with(self.options, "student")

    def student_with(self, options: TrainOptions, name: str) -> nn.Module:
        """Train a student of this run's teacher and auxiliaries with other options of its own.

        All begin at the same random weights, whatever their name.
        """
        filtered = self.source_view, self.pseudo_labels[0]
        taught_by = *filtered, self.optical_auxiliary, self.sar_auxiliary
        self.seed_weights("student")
        channels = len(self.optical_spec.channels), len(self.sar_spec.channels)
        step = StudentStep(channels, self.label_weights(), options, *taught_by)
        step.name = name
        return fit(step, self.cloudy_samples(options.student.drop_share), self.folder)

    @cached_property
    def pseudo_labels(self) -> tuple[PseudoLabelFilter, dict[str, float]]:
        """The fitted filter of sub-task F1, and how much it keeps of what."""
        probabilities, reliability, labels = self._answers(self.source_view)
        chosen = PseudoLabelFilter.fit(probabilities, reliability, self.options.auxiliary.filter)
        kept = chosen.keep(probabilities, reliability)
        return chosen, filter_report(kept, probabilities, labels)

    @property
    def patch_size(self) -> int:
        """Height and width of the patches in pixels."""
        for index in range(len(self.source)):
            for pixels in self.source.pair(index):
                if pixels is not None:
                    return int(pixels.shape[-1])
        raise InputError(f"{self.source.name} has no pixels")

    def samples(self, degradation: Degradation, split: str = "train") -> CloudySamples:
        """Return the target's training pairs, or a held-out split, as this run's tensors."""
        if split == "train" and self.options.target_share:
            degradation = replace(degradation, hide_labels=True)
        return self._tensors(self.target_part, split, degradation)

    def source_samples(self, degradation: Degradation) -> CloudySamples:
        """Return the labeled pairs that the source model learns on."""
        return self._tensors(self.source_part, "train", degradation)

    def cloudy_samples(self, drop_share: float = 0.0) -> CloudySamples:
        """Return the target's training pairs as the auxiliaries and the student see them."""
        return self.samples(self._cloudy(drop_share))

    def labeled_cloudy_samples(self) -> CloudySamples:
        """Return the target's training pairs with their labels: for upper bounds only."""
        return self._tensors(self.target_part, "train", self._cloudy())

    def cloudy_source_samples(self) -> CloudySamples:
        """Return the source's labeled pairs under the clouds that the target has."""
        return self.source_samples(self._cloudy())

    def _tensors(self, part: PairSource, split: str, degradation: Degradation) -> CloudySamples:
        """Samples that draw anew are made anew; those that repeat are made once for all steps."""
        draws = self.options.clouds.draws
        key = id(part), split, degradation  # a part lives as long as the samples that read it
        if draws and key in self._kept:
            return self._kept[key]
        samples = CloudySamples(
            part, split, self.optical_spec, self.sar_spec, degradation, self.options.seed, draws
        )
        if draws:
            self._kept[key] = samples
        return samples

    def sibling(self, options: TrainOptions, name: str) -> Chain:
        """Return a run with other options after the source model, in a folder of its own."""
        other = Chain(options, self.source, self.folder / name)
        other.teacher, other._kept = self.teacher, self._kept
        other.source_part, other.target_part = self.source_part, self.target_part
        return other

    def seed_weights(self, name: str) -> None:
        """Fix the initial weights of a step, whatever ran before it."""
        torch.manual_seed(epoch_seed(self.options.seed, name, -1))

    def _cloudy(self, drop_share: float = 0.0) -> Degradation:
        clouds = self.options.clouds
        return Degradation(
            cover=(0.0, 1.0) if clouds.simulate else 0.0,
            clear_share=clouds.clear_share,
            augment=True,
            drop_share=drop_share,
            textures=self.textures,
        )

    @cached_property
    def source_view(self) -> EachView | AllViews:
        """Who answers for the source model on the cloudy training pairs."""
        each = EachView(self.teacher, self.options.distillation)
        if self.options.distillation.views == "each":
            return each
        return AllViews(each, self._every_view(), len(self.source))

    @cached_property
    def source_answers(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Probabilities, reliability and known labels of every cloudy view on its own."""
        return self._answers(EachView(self.teacher, self.options.distillation))

    def _answers(self, source: nn.Module) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        answers = []
        for batch in self._every_view():
            answer = source(batch)
            answers.append((soften(answer.logits), answer.reliability, batch["label"]))
        probabilities, reliability, labels = (
            torch.cat(part) for part in zip(*answers, strict=True)
        )
        return probabilities, reliability, labels

    def _every_view(self) -> Iterator[Batch]:
        """Yield the cloudy training pairs in batches, once per draw."""
        samples = self.cloudy_samples()
        batch_size = self.options.auxiliary.schedule.batch_size
        for epoch in range(max(1, self.options.clouds.draws)):
            samples.set_epoch(epoch)
            yield from torch.utils.data.DataLoader(samples, batch_size)

    def _specs(self) -> tuple[ModalitySpec, ModalitySpec]:
        return modality_specs(self.source, self.options.seed, self.textures)

    def label_weights(self) -> torch.Tensor:
        """Factor per class, ``(K,)``, from the labels that may be known."""
        return class_weights(self._train_labels(), len(self.source.classes))

    def _train_labels(self) -> npt.NDArray[np.int64]:
        chosen = np.asarray(self.source_part.splits) == "train"
        labels: npt.NDArray[np.int64] = np.asarray(self.source_part.labels, np.int64)[chosen]
        return labels

    def _check_labels(self) -> None:
        labels = self._train_labels()
        found = sorted({self.source.classes[k] for k in labels[labels >= 0]})
        if len(found) < 2:
            raise InputError(
                f"the training split of {self.source.name} has labels of the classes {found}, "
                "expected at least two",
                hint="Check the columns label and split",
            )
