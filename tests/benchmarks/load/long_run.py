"""Load of every kind with faults of every kind, for hours, and the accounts at the end.

Promised is what ``docs/reliability.md`` says: each request ends exactly once; what is answered is
right; what fails does so by an error of ours and alone; nothing is left behind; and the model is
well at the end.
"""

from __future__ import annotations

import gc
import itertools
import logging
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from esccs_edge.classifier import Classifier
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import InputError
from esccs_edge.runtime.counters import Stats

from .asking import Caller
from .beside import Beside
from .known_pairs import Pairs
from .ledger import Ledger
from .process_state import ProcessState, quarters, temporaries
from .rows import Progress, no_progress
from .troubles import Troubles

#: Samples of the process over the whole run.
SAMPLES = 400
#: Longest wait for an answer on a busy machine; what takes longer is lost.
PATIENCE_S = 120.0
#: A run whose second quarter begins earlier tells nothing of growth: the process still settles.
SETTLING_S = 60.0
#: Growth from the second quarter of the run to the fourth, by medians.
MAX_GROWN_BYTES = 32 * 2**20
MAX_GROWN_THREADS, MAX_GROWN_DESCRIPTORS = 2, 2
#: Pauses between two troubles, and how many quick ones come before one that starts a process.
PAUSE_S, QUICK_PER_SLOW = 0.2, 10
_CHECK_EVERY_S = 10.0

#: What a caller or a maker of troubles does again and again, with dice of its own.
Deed = Callable[[random.Random], None]


@dataclass(frozen=True)
class LongRun:
    """What a long run found.

    Attributes:
        seconds: Time under load.
        asked: Way of asking -> requests.
        ended: Way -> how they ended -> requests.
        unaccounted: Way -> requests that did not end.
        faults: Row of the catalog -> times made.
        states: The process over time, between the start and the end of the load.
        before: The process before the load.
        after: The process after all was closed.
        stats: Counts of the classifier itself.
        broken: Promises that were not kept, the first ones in words.
        breaks: How many there were.
    """

    seconds: float
    asked: dict[str, int]
    ended: dict[str, dict[str, int]]
    unaccounted: dict[str, int]
    faults: dict[int, int]
    states: list[ProcessState]
    before: ProcessState
    after: ProcessState
    stats: Stats
    broken: list[str]
    breaks: int


def long_run(
    bundle: Bundle,
    hours: float,
    *,
    threads: int | None = None,
    seed: int = 0,
    patience_s: float = PATIENCE_S,
    progress: Progress = no_progress,
) -> LongRun:
    """Put a classifier on the CPU under load and faults.

    Args:
        bundle: A model of pairs that `Classifier` opens; a copy of it is updated and damaged.
        hours: How long; what is under way then still ends.
        threads: CPU threads of the classifier; None for all.
        seed: Of all dice.
        patience_s: An answer that takes longer is lost.
        progress: Called with seconds gone and in all.

    Raises:
        InputError: ``hours`` is not positive.
    """
    if not hours > 0:
        raise InputError(f"hours is {hours}, expected a positive number")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        return _LongRun(bundle, Path(folder), threads, seed, patience_s).run(hours * 3600, progress)


class _LongRun:
    def __init__(
        self, bundle: Bundle, folder: Path, threads: int | None, seed: int, patience_s: float
    ) -> None:
        self._patience_s = patience_s
        self._folder = folder
        self._seed = seed
        self._ledger = Ledger()
        self._is_over = threading.Event()
        copy = folder / "bundle"
        bundle.copy(copy)
        self._classifier = Classifier(copy, "cpu", threads=threads, check_every_s=_CHECK_EVERY_S)
        self._classifier.warmup()
        pairs = Pairs(self._classifier)
        maps = folder / "maps"
        maps.mkdir()
        self._beside = Beside(self._ledger, patience_s)
        self._caller = Caller(self._classifier, pairs, self._ledger, patience_s)
        self._troubles = Troubles(self._classifier, copy, maps, pairs, self._ledger, patience_s)

    def run(self, seconds: float, progress: Progress) -> LongRun:
        began_s = time.monotonic()
        before = self._state(began_s)
        workers = self._start()
        states: list[ProcessState] = []
        while (gone_s := time.monotonic() - began_s) < seconds:
            progress(round(gone_s), round(seconds))
            self._is_over.wait(min(max(seconds / SAMPLES, 0.05), seconds - gone_s))
            states.append(self._state(began_s))
            self._look_at_health(under_load=True)
        self._is_over.set()
        for worker in workers:
            worker.join(2 * self._patience_s)
            if worker.is_alive():
                self._ledger.broke(f"{worker.name} did not come back")
        stats = self._end()
        after = self._state(began_s)
        self._judge(states, before, after)
        return LongRun(
            seconds=time.monotonic() - began_s,
            asked=dict(self._ledger.asked),
            ended=self._ended(),
            unaccounted=self._ledger.open_requests(),
            faults=dict(sorted(self._ledger.faults.items())),
            states=states,
            before=before,
            after=after,
            stats=stats,
            broken=self._ledger.broken,
            breaks=self._ledger.breaks,
        )

    def _start(self) -> list[threading.Thread]:
        caller, troubles = self._caller, self._troubles
        callers: list[Deed] = [
            caller.one_by_one, caller.batches, caller.bursts, caller.bursts,
            caller.streams, caller.coroutines, self._beside.ask,
        ]  # fmt: skip
        deeds = {f"{deed.__name__} {n}": deed for n, deed in enumerate(callers)}
        deeds["troubles"] = _in_turns(troubles.quick(), troubles.slow())
        workers = [
            threading.Thread(target=self._repeat, args=(name, deed), name=name, daemon=True)
            for name, deed in deeds.items()
        ]
        for worker in workers:
            worker.start()
        return workers

    def _repeat(self, name: str, deed: Deed) -> None:
        dice = random.Random(f"{self._seed} {name}")
        while not self._is_over.is_set():
            try:
                deed(dice)
            except Exception as error:
                self._ledger.broke_by(name, error)

    def _look_at_health(self, *, under_load: bool) -> None:
        health = self._classifier.health()
        is_busy = under_load and "requests are waiting" in (health.problem or "")
        if not health.ok and not is_busy:
            self._ledger.broke(f"health: {health.problem}")

    def _end(self) -> Stats:
        self._look_at_health(under_load=False)
        self._classifier.close()
        self._beside.close()
        for name, stats in (
            ("the classifier", self._classifier.stats()),
            ("the failing backend", self._beside.pipeline.stats()),
        ):
            ended = stats.completed + stats.failed + stats.rejected + stats.cancelled
            if stats.submitted != ended:
                self._ledger.broke(f"{name} counts {stats.submitted} requests and {ended} ends")
        gc.collect()
        return self._classifier.stats()

    def _judge(
        self, states: Sequence[ProcessState], before: ProcessState, after: ProcessState
    ) -> None:
        for way, count in self._ledger.open_requests().items():
            if count:
                self._ledger.broke(f"{way}: {count} requests are not accounted for")
        for left in temporaries(self._folder):
            self._ledger.broke(f"{left} was left behind")
        for field in ("threads", "descriptors"):
            start, end = getattr(before, field), getattr(after, field)
            if end > start:
                self._ledger.broke(f"{end} {field} after all was closed, {start} before")
        if states[-1].at_s / 4 < SETTLING_S:
            return
        for field, most in (
            ("resident_bytes", MAX_GROWN_BYTES),
            ("threads", MAX_GROWN_THREADS),
            ("descriptors", MAX_GROWN_DESCRIPTORS),
        ):
            _, second, _, fourth = quarters(states, field)
            if fourth - second > most:
                self._ledger.broke(f"{field} grew from {second:.0f} to {fourth:.0f}")

    def _ended(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {way: {} for way in self._ledger.asked}
        for (way, how), count in sorted(self._ledger.ended.items()):
            found.setdefault(way, {})[how] = count
        return found

    def _state(self, began_s: float) -> ProcessState:
        return ProcessState.now(began_s, sum(self._ledger.asked.values()))


def _in_turns(quick: Sequence[Deed], slow: Sequence[Deed]) -> Deed:
    """Return a deed that does one of them at a time, and pauses."""
    turns = itertools.count()

    def one(dice: random.Random) -> None:
        done = next(turns)
        if done % (QUICK_PER_SLOW + 1) == QUICK_PER_SLOW:
            slow[done // (QUICK_PER_SLOW + 1) % len(slow)](dice)
        else:
            dice.choice(quick)(dice)
        time.sleep(PAUSE_S)

    return one


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what callbacks raise, and what updates of the bundle tell, out of the output."""
    loggers = [logging.getLogger(f"esccs_edge.{name}") for name in ("runtime", "bundle")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
