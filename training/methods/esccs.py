"""ESCCS: the student with gate, taught by source model and auxiliaries through IRM.

Two sub-tasks and the place of IRM follow the paper; formulas, reliability and gate are ours (see
`training.irm` and `training.steps`).
"""

from __future__ import annotations

from torch import nn

from ..stages.chain import Chain
from .method import gated


def _student(chain: Chain) -> nn.Module:
    return chain.student


METHOD = gated(_student, "two auxiliaries, IRM, supervised gate")
