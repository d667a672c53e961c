"""ESCCS with one thing changed: what its parts are worth.

All share the auxiliaries of the run, but for two: ``esccs-each-view``, which asks the source model
view by view, and ``esccs-plain``, the two-step as the paper draws it: view by view, with the source
model believed under clouds too (only the confidence filter acts) and no supervised gate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from ..stages.chain import Chain
from .method import Method, gated

#: Clear shares below any real one: the source model is believed everywhere.
ALWAYS_BELIEVED = (-2.0, -1.0)


def changed(name: str, adds: str, irm: dict[str, Any] | None = None, **student: Any) -> Method:
    """Return ESCCS with other options of the student or of its information regulation."""

    def net(chain: Chain) -> nn.Module:
        part = chain.options.student
        part = replace(part, irm=replace(part.irm, **(irm or {})), **student)
        return chain.student_with(chain.options.evolve(student=part), name)

    return gated(net, adds)


def plain_chain(chain: Chain) -> Chain:
    """Return a chain that shares the source model and never asks for reliability."""
    options = chain.options
    distillation = replace(options.distillation, reliable_clear_share=ALWAYS_BELIEVED, views="each")
    plain = options.evolve(
        distillation=distillation, student=replace(options.student, gate_weight=0.0)
    )
    return chain.sibling(plain, "plain")


def _each_view(chain: Chain) -> nn.Module:
    distillation = replace(chain.options.distillation, views="each")
    options = chain.options.evolve(distillation=distillation)
    return chain.sibling(options, "each-view").student


def _own_start(chain: Chain) -> nn.Module:
    return chain.student_with(chain.options.evolve(warm_start=False), "esccs-own-start")


def _plain(chain: Chain) -> nn.Module:
    return plain_chain(chain).student


NO_IRM = changed("esccs-no-irm", "ESCCS, all weights 1", {"variant": "power", "beta": 0.0})
OGM = changed("esccs-ogm", "ESCCS, IRM of the form of OGM-GE", {"variant": "ogm"})
FLOOR = changed(
    "esccs-power-floor", "ESCCS, IRM with a certainty floor", {"variant": "power+floor"}
)
NO_GATE = changed("esccs-no-gate", "ESCCS, gate not supervised", gate_weight=0.0)
OWN_START = gated(_own_start, "ESCCS, the student starts at random weights")
EACH_VIEW = gated(_each_view, "ESCCS, the source model asked view by view", auxiliaries=False)
PLAIN = gated(_plain, "two-step as the paper draws it, no reliability", auxiliaries=False)
