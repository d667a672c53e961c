"""ESCCS with one thing changed: what its parts are worth.

All share the auxiliaries of the run, but for two: ``esccs-each-view``, which asks the teacher
view by view, and ``esccs-plain``, the two sub-tasks as the paper draws them: view by view, with the
teacher believed under clouds too (only the confidence filter acts) and no supervised gate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from ..learning.networks import Ensemble, UnimodalNet
from ..stages.scene_classification.run import SceneRun
from .method import Method, gated
from .shared import Shared

#: Clear shares below any real one: the teacher is believed everywhere.
ALWAYS_BELIEVED = (-2.0, -1.0)


def changed(name: str, adds: str, irm: dict[str, Any] | None = None, **student: Any) -> Method:
    """Return ESCCS with other options of the student or of its information regulation."""

    def net(shared: Shared) -> nn.Module:
        options = shared.run.options
        part = replace(options.student, irm=replace(options.student.irm, **(irm or {})), **student)
        return shared.train_student(options.evolve(student=part), name)

    return gated(net, adds)


def plain_run(shared: Shared) -> SceneRun:
    """Return a run that shares the teacher and never asks for reliability."""
    options = shared.run.options
    distillation = replace(
        options.distillation, reliable_clear_share=ALWAYS_BELIEVED, teacher_views="each"
    )
    plain = options.evolve(
        distillation=distillation, student=replace(options.student, gate_weight=0.0)
    )
    return shared.run.with_options(plain, shared.run.folder / "plain")


def _both_sub_tasks(run: SceneRun, teacher: UnimodalNet | Ensemble) -> nn.Module:
    """Train auxiliaries and student of a run with a trained teacher."""
    supervision = run.supervise(teacher)
    sar = run.train_sar_auxiliary(supervision)
    optical = run.train_optical_auxiliary(supervision, sar)
    return run.train_student(supervision, sar, optical)


def _plain(shared: Shared) -> nn.Module:
    return _both_sub_tasks(plain_run(shared), shared.teacher)


def _each_view(shared: Shared) -> nn.Module:
    run = shared.run
    distillation = replace(run.options.distillation, teacher_views="each")
    options = run.options.evolve(distillation=distillation)
    return _both_sub_tasks(run.with_options(options, run.folder / "each-view"), shared.teacher)


def _own_start(shared: Shared) -> nn.Module:
    options = shared.run.options.evolve(warm_start=False)
    return shared.train_student(options, "esccs-own-start")


NO_IRM = changed("esccs-no-irm", "ESCCS, all weights 1", {"variant": "power", "beta": 0.0})
OGM = changed("esccs-ogm", "ESCCS, IRM of the form of OGM-GE", {"variant": "ogm"})
FLOOR = changed(
    "esccs-power-floor", "ESCCS, IRM with a certainty floor", {"variant": "power+floor"}
)
NO_GATE = changed("esccs-no-gate", "ESCCS, gate not supervised", gate_weight=0.0)
OWN_START = gated(_own_start, "ESCCS, the student starts at random weights")
EACH_VIEW = gated(_each_view, "ESCCS, the teacher asked view by view", auxiliaries=False)
PLAIN = gated(_plain, "two-step as the paper draws it, no reliability", auxiliaries=False)
