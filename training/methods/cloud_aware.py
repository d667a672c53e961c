"""Compared methods with the cloud estimate of ESCCS; not from any paper, all our choice.

They say how much of a lead of ESCCS comes from what it knows and how much from its two steps. See
`training.methods.cloud_estimate` for what changes.
"""

from __future__ import annotations

from dataclasses import replace

from ..judging.judge import Predictor
from ..stages.chain import Chain
from .cloud_estimate import CloudAwareChain
from .method import Method


def cloud_aware(method: Method) -> Method:
    """Return the method, taught only where the filter of ESCCS keeps an answer."""

    def predictor(chain: Chain) -> Predictor:
        return method.predictor(CloudAwareChain(chain))

    adds = f"{method.adds}; the cloud estimate and source answers of ESCCS"
    return replace(method, predictor=predictor, adds=adds)
