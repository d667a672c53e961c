"""Compared methods with all that ESCCS is given; not from any paper, all our choice.

They are what ESCCS has to beat: the difference is what its two sub-tasks are worth and not what it
is told. The teacher is asked as ESCCS asks it, only answers that pass the filter of ESCCS,
confident and nearly clear, may teach, optical networks start at the source model where the run
does, and joint networks learn to do without a modality. Network and loss stay those of the method.
"""

from __future__ import annotations

from dataclasses import replace

from ..judging.judge import Predictor
from .method import Method
from .shared import Shared
from .told import EQUIPPED


def cloud_aware(method: Method) -> Method:
    """Return the method, taught only where the filter of ESCCS keeps an answer."""

    def predictor(shared: Shared) -> Predictor:
        return method.predictor(with_cloud_estimate(shared))

    adds = f"{method.adds}; all that ESCCS is given"
    needs = tuple("auxiliaries" if need == "paper auxiliaries" else need for need in method.needs)
    return replace(method, predictor=predictor, adds=adds, needs=needs, gifts=EQUIPPED)


def on_sgd(method: Method) -> Method:
    """Return the method on SGD, for methods that act on gradients, which AdamW rescales."""

    def predictor(shared: Shared) -> Predictor:
        options = shared.run.options
        part = options.student
        student = replace(part, schedule=replace(part.schedule, optimizer="sgd"))
        run = shared.run.with_options(options.evolve(student=student), shared.run.folder / "sgd")
        return method.predictor(replace(shared, run=run))

    return replace(method, predictor=predictor, adds=f"{method.adds}; on SGD")


def with_cloud_estimate(shared: Shared) -> Shared:
    """Return the same networks and data for methods that know clouds, in a folder of its own."""
    run = shared.run
    own = run.with_options(run.options, run.folder / "cloud-aware")
    return replace(shared, run=own, knows_clouds=True)
