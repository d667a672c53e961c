"""SAR auxiliary: taught by the source model on confident, nearly clear samples, asked about all.

First half of ESCCS (sub-task F1); teaching on reliable samples only is our choice.
"""

from __future__ import annotations

from ..judging.judge import Predictor, unimodal
from ..stages.chain import Chain
from .method import Method


def _predictor(chain: Chain) -> Predictor:
    """Answer from the SAR patch."""
    return unimodal(chain.sar_auxiliary, "sar")


METHOD = Method(_predictor, "the SAR half of ESCCS", auxiliaries=True)
