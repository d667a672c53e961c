"""The compared methods, one file each; `METHODS` gives them their order in the tables.

A method file holds ``predictor(chain) -> Predictor``: it trains what the method needs beyond the
teacher and the auxiliaries, which all methods of one seed share through the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..chain import Chain
from ..judge import Predictor
from . import esccs, optical_auxiliary, sar_auxiliary, source_only

METHODS: Mapping[str, Callable[[Chain], Predictor]] = MappingProxyType(
    {
        "source-only": source_only.predictor,
        "optical-auxiliary": optical_auxiliary.predictor,
        "sar-auxiliary": sar_auxiliary.predictor,
        "esccs": esccs.predictor,
    }
)
