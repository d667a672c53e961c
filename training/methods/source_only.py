"""Source-only: the model taught on cloud-free optical images, asked about cloudy ones.

No adaptation: the lower bound that every method has to beat, and the teacher of all of them. How
it learns is our choice (`training.steps.teacher`).
"""

from __future__ import annotations

from ..judging.judge import Predictor, unimodal
from ..stages.chain import Chain
from .method import Method


def _predictor(chain: Chain) -> Predictor:
    """Answer from the cloudy optical image."""
    return unimodal(chain.teacher, "optical")


METHOD = Method(_predictor, "nothing")
