"""Compared methods with the cloud estimate of ESCCS; not from any paper, all our choice.

They show how much of a lead of ESCCS comes from what it knows and how much from its two sub-tasks.
The teacher is asked as ESCCS asks it (one view or all views of a place, as the run states), and
only answers that pass the filter of ESCCS, confident and nearly clear, may teach. Network, loss
and schedule stay those of the method.
"""

from __future__ import annotations

from dataclasses import replace

from ..judging.judge import Predictor
from .method import Method
from .shared import Shared


def cloud_aware(method: Method) -> Method:
    """Return the method, taught only where the filter of ESCCS keeps an answer."""

    def predictor(shared: Shared) -> Predictor:
        return method.predictor(with_cloud_estimate(shared))

    adds = f"{method.adds}; the cloud estimate and teacher answers of ESCCS"
    return replace(method, predictor=predictor, adds=adds)


def with_cloud_estimate(shared: Shared) -> Shared:
    """Return the same networks and data for methods that know clouds, in a folder of its own."""
    run = shared.run
    own = run.with_options(run.options, run.folder / "cloud-aware")
    return replace(shared, run=own, knows_clouds=True)
