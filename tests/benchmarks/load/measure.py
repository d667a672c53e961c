"""All load measurements one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import InputError
from esccs_edge.system.cores import usable_cores

from .callers import scale_batches, scale_callers, thread_counts
from .overload import overload
from .rows import Progress, Scaling, no_progress
from .soak import resident_bytes, soak

SOAK_CALLS = 100_000


def measure_scaling(
    bundle: Bundle,
    *,
    seconds: float,
    soak_calls: int = SOAK_CALLS,
    step: Callable[[str], AbstractContextManager[Progress]] = lambda name: nullcontext(no_progress),
) -> Scaling:
    """Run all measurements one after the other, on the CPU.

    Args:
        bundle: The model.
        seconds: Time spent on each row; the loads take twice that, in each round.
        soak_calls: Calls of the soak; 0 leaves it out.
        step: Given the name of a measurement, returns what reports its progress.

    Raises:
        InputError: There is no time to measure in.
        EsccsError: There is a soak and the system has no figure for the resident memory.
    """
    if not seconds > 0:
        raise InputError(f"seconds is {seconds}, expected a positive number")
    if soak_calls:
        resident_bytes()  # refuse before the timing, not after
    with step("callers") as progress:
        threads = thread_counts(usable_cores())
        callers = scale_callers(bundle, threads, seconds=seconds, progress=progress)
    with step("batches") as progress:
        batches = scale_batches(bundle, seconds=seconds, progress=progress)
    with step("load") as progress:
        load = overload(bundle, seconds=2 * seconds, progress=progress)
    memory = None
    if soak_calls:
        with step("soak") as progress:
            memory = soak(bundle, soak_calls, progress=progress)
    return Scaling(bundle.manifest.name, seconds, callers, batches, load, memory)
