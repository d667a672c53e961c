"""Rows that compare nothing but ESCCS itself: the teacher alone, its auxiliaries, and the whole.

Source-only is the model taught on cloud-free optical images, asked about cloudy ones: the lower
bound that every method has to beat, and the teacher of all of them. The auxiliaries are the first
half of ESCCS (sub-task F1), the student with gate is the whole (F2). Two sub-tasks and the place
of IRM follow the paper; formulas, reliability and gate are ours (see `training.learning.irm` and
`training.stages.scene_classification`).
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ..judging.judge import Predictor
from ..judging.predictors import unimodal
from .method import Method, gated
from .shared import Auxiliaries, Shared
from .told import EQUIPPED, Gifts


def _source_only(shared: Shared) -> Predictor:
    return unimodal(shared.teacher, "optical")


def _auxiliaries(shared: Shared) -> Auxiliaries:
    assert shared.auxiliaries is not None
    return shared.auxiliaries


def _optical_auxiliary(shared: Shared) -> Predictor:
    return unimodal(_auxiliaries(shared).optical, "optical")


def _sar_auxiliary(shared: Shared) -> Predictor:
    return unimodal(_auxiliaries(shared).sar, "sar")


def _esccs(shared: Shared) -> nn.Module:
    return shared.train_student()


SOURCE_ONLY = Method(_source_only, "nothing", gifts=Gifts(stages=0))
OPTICAL_AUXILIARY = Method(
    _optical_auxiliary, "the optical half of ESCCS", needs=("auxiliaries",),
    gifts=replace(EQUIPPED, stages=2),
)  # fmt: skip
SAR_AUXILIARY = Method(
    _sar_auxiliary, "the SAR half of ESCCS", needs=("auxiliaries",),
    gifts=replace(EQUIPPED, stages=1),
)  # fmt: skip
ESCCS = gated(_esccs, "two auxiliaries, IRM, supervised gate", "auxiliaries")
