"""What the methods of one seed share: data, teacher, and the auxiliaries of ESCCS."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from ..learning.networks import StudentNet, UnimodalNet
from ..learning.own_teacher import AnyTeacher
from ..learning.pseudo_labels import PseudoLabelFilter
from ..options import Schedule
from ..scene_options import TrainOptions
from ..stages.scene_classification.run import SceneRun
from ..stages.scene_classification.student import StudentStage
from ..stages.scene_classification.teacher_answers import Supervision
from .told import epochs_of


@dataclass(frozen=True)
class Auxiliaries:
    """Both auxiliaries of ESCCS."""

    optical: UnimodalNet
    sar: UnimodalNet


@dataclass(frozen=True)
class Shared:
    """What the methods of one seed share.

    Attributes:
        run: Options, data and folder.
        supervision: The teacher, and its answers as ESCCS uses them.
        confident: The filter of KDHN: by the teacher's answers alone, blind to clouds.
        auxiliaries: Those of ESCCS; None where no method asks for them.
        paper_auxiliaries: Those that the paper draws; see `paper_auxiliaries`.
        crosswise: Answers of auxiliaries that did not learn a place; see `crosswise`.
        knows_clouds: Whether methods get what ESCCS has: the cloud estimate, its filter, its start
            at the source model and pairs that lose a modality.
    """

    run: SceneRun
    supervision: Supervision
    confident: PseudoLabelFilter
    auxiliaries: Auxiliaries | None = None
    paper_auxiliaries: Auxiliaries | None = None
    crosswise: nn.Module | None = None
    knows_clouds: bool = False

    @classmethod
    def train(cls, run: SceneRun) -> Shared:
        """Train or load the teacher and ask it about all training pairs."""
        teacher = run.train_teacher()
        known = run.every_answer(teacher)
        believed = torch.ones_like(known.reliability)
        options = run.options.auxiliary.filter
        confident = PseudoLabelFilter.fit(known.probabilities, believed, options)
        return cls(run, run.supervise(teacher), confident)

    def with_auxiliaries(self) -> Shared:
        """Train or load the auxiliaries."""
        sar = self.run.train_sar_auxiliary(self.supervision)
        optical = self.run.train_optical_auxiliary(self.supervision, sar)
        return replace(self, auxiliaries=Auxiliaries(optical, sar))

    @property
    def teacher(self) -> AnyTeacher:
        """The network that all methods learn from."""
        return self.supervision.teacher

    @property
    def trained_auxiliaries(self) -> Auxiliaries:
        """The auxiliaries that belong to a row, which has to state that it needs them."""
        found = self.auxiliaries if self.knows_clouds else self.paper_auxiliaries
        if found is None:
            raise ValueError("the auxiliaries are not trained; the method must state its needs")
        return found

    @property
    def warm_start(self) -> bool:
        """Whether optical networks start at the source model."""
        return self.knows_clouds and self.run.options.starts_at_teacher

    def schedule(self, share: float = 1.0) -> Schedule:
        """Return a share of the epochs that each method has: as many as ESCCS in its 3 stages."""
        epochs = round(share * epochs_of(3, self.run.options))
        return replace(self.run.options.student.schedule, epochs=max(1, epochs))

    def options_with_beta(self, beta: float) -> TrainOptions:
        """Return the run's options with another strength of information regulation."""
        options = self.run.options
        irm = replace(options.student.irm, beta=beta)
        return options.evolve(student=replace(options.student, irm=irm))

    @property
    def filter(self) -> PseudoLabelFilter:
        """Which answers may teach a method that filters them."""
        return self.supervision.pseudo_labels if self.knows_clouds else self.confident

    def train_student(
        self,
        options: TrainOptions | None = None,
        name: str = "student",
        form: type[StudentStage] = StudentStage,
        **frozen: nn.Module,
    ) -> StudentNet:
        """Train a student of ESCCS, with the run's options and losses or with others."""
        if self.auxiliaries is None:
            raise ValueError("the auxiliaries are not trained; the method must state its needs")
        sar, optical = self.auxiliaries.sar, self.auxiliaries.optical
        run = self.run.with_options(options or self.run.options)
        return run.train_student(self.supervision, sar, optical, name, form, **frozen)
