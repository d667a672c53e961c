"""Hands times that were measured elsewhere to pytest-benchmark, which tables and keeps them.

Peers work in processes of their own and in turns, callers in many threads; neither fits into the
one function that pytest-benchmark times. So they are measured first, and then a clock is shown to
pytest-benchmark that moves by what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class ReplayClock:
    """A clock that stands still but for durations that are replayed.

    A test that replays is marked ``@pytest.mark.benchmark(timer=CLOCK)``.
    """

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._now_s

    def replay(self, benchmark: Any, times_ms: Iterable[float], **facts: Any) -> None:
        """Let a ``benchmark`` fixture see these durations, a round each.

        Args:
            benchmark: The fixture of a test marked with this clock.
            times_ms: Durations, one at least.
            facts: Go into the ``extra_info`` of the JSON document.
        """
        durations = list(times_ms)
        left = iter(durations)

        def advance() -> None:
            self._now_s += 1e-3 * next(left)

        benchmark.extra_info.update(facts)
        benchmark.pedantic(advance, rounds=len(durations))


CLOCK = ReplayClock()
