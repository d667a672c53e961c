"""ESCCS: the student with gate, taught by source model and auxiliaries through IRM.

Two sub-tasks and the place of IRM follow the paper; formulas, reliability and gate are ours (see
`training.irm` and `training.steps`).
"""

from __future__ import annotations

from ..chain import Chain
from ..judge import Predictor, bimodal, gates
from .method import Method


def _predictor(chain: Chain) -> Predictor:
    """Answer from both modalities."""
    return bimodal(chain.student)


METHOD = Method(
    _predictor, "two auxiliaries, IRM, supervised gate", gate=lambda chain: gates(chain.student)
)
