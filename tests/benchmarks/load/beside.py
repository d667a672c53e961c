"""A backend that raises, answers NaN and hangs, at work in the same process as the real one."""

from __future__ import annotations

import random
import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import numpy as np
from support.fake import CLASSES, FakeBackend, numbered_manifest, numbered_pair

from esccs_edge.errors import BackendError, EsccsError
from esccs_edge.runtime.pipeline import Pipeline

from .ledger import Ledger

WAY = "submit to a failing backend"
#: Numbers that make the backend fail: of a pair that it raises for, one that it answers NaN for,
#: one that it fails for once, one that it hangs for.
RAISES, NAN, PASSES, HANGS = 0, 1, 2, 3
#: A batch that is in a lane for longer is given up.
_HANG_S = 0.2
_LONGEST_HANG_S = 60.0


class Beside:
    """A pipeline over a fake backend, whose answers are told by the number in each pair.

    Args:
        ledger: Where all is entered.
        patience_s: An answer that takes longer is lost.
    """

    def __init__(self, ledger: Ledger, patience_s: float) -> None:
        self._ledger = ledger
        self._patience_s = patience_s
        self._goes_on = threading.Event()
        self._failed_once = False
        self._backend = FakeBackend(max_batch=8, script=self._script)
        self.pipeline: Pipeline[Any] = Pipeline(self._backend, numbered_manifest(), lanes=2)

    def ask(self, dice: random.Random) -> None:
        """Submit pairs, some of which the backend fails for."""
        self._backend.batches.clear()
        hangs = dice.random() < 0.1
        self._goes_on.clear()
        self._failed_once = False
        numbers = [dice.randrange(HANGS + 1, CLASSES) for _ in range(dice.randint(1, 40))]
        numbers += dice.sample((RAISES, NAN, PASSES), dice.randint(0, 3)) + [HANGS] * hangs
        dice.shuffle(numbers)
        self._ledger.ask(WAY, len(numbers))
        waiting = [(number, self._submit(number)) for number in numbers]
        if hangs:
            self._ledger.made(85)
            self._give_up(next(future for number, future in waiting if number == HANGS))
        for number, future in waiting:
            self._enter(number, self._outcome(future), hangs)

    def close(self) -> None:
        """End; nothing hangs any more."""
        self._goes_on.set()
        self.pipeline.close(timeout_s=self._patience_s)

    def _submit(self, number: int) -> Future[Any]:
        return self.pipeline.submit(lambda: numbered_pair(number))

    def _script(self, numbers: list[int]) -> np.ndarray | None:
        if PASSES in numbers and not self._failed_once:
            self._failed_once = True
            raise BackendError("a passing failure")
        if RAISES in numbers:
            raise ArithmeticError(f"the backend chokes on {numbers}")
        if HANGS in numbers:
            self._goes_on.wait(_LONGEST_HANG_S)
        logits = np.zeros((len(numbers), CLASSES), np.float32)
        logits[np.arange(len(numbers)), numbers] = 20
        logits[np.asarray(numbers) == NAN] = np.nan
        return logits

    def _give_up(self, hung: Future[Any]) -> None:
        for _ in range(int(self._patience_s / _HANG_S)):
            try:
                hung.exception(_HANG_S)
                break
            except (FutureTimeoutError, CancelledError):
                self.pipeline.give_up(_HANG_S)
        self._goes_on.set()

    def _outcome(self, future: Future[Any]) -> object:
        try:
            return future.result(self._patience_s)
        except Exception as error:
            return error

    def _enter(self, number: int, found: object, hangs: bool) -> None:
        if isinstance(found, FutureTimeoutError) and not isinstance(found, EsccsError):
            self._ledger.broke(f"{WAY}: no answer within {self._patience_s:g} s")
            return
        rows = {RAISES: 29, NAN: 29, PASSES: 88, HANGS: 85}
        if number in rows and number != HANGS:
            self._ledger.made(rows[number])
        must_fail = number in (RAISES, NAN, HANGS)
        if isinstance(found, BackendError) and (must_fail or hangs):  # neighbors of what hangs too
            self._ledger.end(WAY, "BackendError")
        elif not must_fail and getattr(found, "label", None) == f"c{number}":
            self._ledger.end(WAY, "answered")
        else:
            self._ledger.end(WAY, f"pair {number} ended in {found!r}")
