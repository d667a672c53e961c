"""What the methods of one seed share: data, teacher, and the auxiliaries of ESCCS."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..learning.networks import Ensemble, StudentNet, UnimodalNet
from ..learning.pseudo_labels import PseudoLabelFilter
from ..options import TrainOptions
from ..stages.scene_classification.run import SceneRun
from ..stages.scene_classification.teacher_answers import Supervision


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
        knows_clouds: Whether methods get the cloud estimate and the filter of ESCCS.
    """

    run: SceneRun
    supervision: Supervision
    confident: PseudoLabelFilter
    auxiliaries: Auxiliaries | None = None
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
    def teacher(self) -> UnimodalNet | Ensemble:
        """The network that all methods learn from."""
        return self.supervision.teacher

    @property
    def trained_auxiliaries(self) -> Auxiliaries:
        """The auxiliaries, for methods that state that they need them."""
        if self.auxiliaries is None:
            raise ValueError("the auxiliaries are not trained; state auxiliaries=True")
        return self.auxiliaries

    @property
    def filter(self) -> PseudoLabelFilter:
        """Which answers may teach a method that filters them."""
        return self.supervision.pseudo_labels if self.knows_clouds else self.confident

    def train_student(
        self, options: TrainOptions | None = None, name: str = "student"
    ) -> StudentNet:
        """Train a student of ESCCS, with the run's options or with others."""
        auxiliaries = self.trained_auxiliaries
        run = self.run.with_options(options or self.run.options)
        return run.train_student(self.supervision, auxiliaries.sar, auxiliaries.optical, name)
