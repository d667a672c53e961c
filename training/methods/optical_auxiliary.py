"""Optical auxiliary: the best that the chain teaches a network that sees cloudy optical only.

First half of ESCCS (sub-task F1); reliability-mixed labels are our choice.
"""

from __future__ import annotations

from ..judging.judge import Predictor, unimodal
from ..stages.chain import Chain
from .method import Method


def _predictor(chain: Chain) -> Predictor:
    """Answer from the cloudy optical image."""
    return unimodal(chain.optical_auxiliary, "optical")


METHOD = Method(_predictor, "the optical half of ESCCS", auxiliaries=True)
