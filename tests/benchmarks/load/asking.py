"""Callers that ask in every way there is, and go wrong in every way a caller may.

Each method is one visit of a caller: it enters what it asks for in the ledger, and how that ended.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from esccs_edge.classifier import Classifier
from esccs_edge.contracts.values import Prediction
from esccs_edge.errors import EsccsError, InputError, Overloaded

from .known_pairs import Known, Pairs
from .ledger import Ledger


class SourceError(Exception):
    """What an iterable of a caller raises."""


class Caller:
    """Asks one classifier, which others ask too.

    Args:
        classifier: At work.
        pairs: What to ask, with the answers.
        ledger: Where all is entered.
        patience_s: An answer that takes longer is lost.
    """

    def __init__(
        self, classifier: Classifier, pairs: Pairs, ledger: Ledger, patience_s: float
    ) -> None:
        self._classifier = classifier
        self._pairs = pairs
        self._ledger = ledger
        self._patience_s = patience_s

    def one_by_one(self, dice: random.Random) -> None:
        """Ask by `Classifier.classify`."""
        for _ in range(16):
            known = self._drawn(dice, "classify")
            try:
                found: object = self._classifier.classify(known.optical, known.sar)
            except Exception as error:
                found = error
            self._enter("classify", known, found)

    def batches(self, dice: random.Random) -> None:
        """Ask by `Classifier.classify_batch`; a bad pair must not harm its neighbors."""
        asked = [self._drawn(dice, "classify_batch") for _ in range(dice.randint(1, 80))]
        opticals, sars = zip(*((known.optical, known.sar) for known in asked), strict=True)
        answers = self._classifier.classify_batch(opticals, sars)
        for known, found in zip(asked, answers, strict=True):
            self._enter("classify_batch", known, found)

    def bursts(self, dice: random.Random) -> None:
        """Ask by `Classifier.submit`, now and then for more than the queue holds."""
        count = 600 if dice.random() < 0.05 else dice.randint(1, 64)
        waiting: list[tuple[Known, Future[Prediction], set[str]]] = []
        for _ in range(count):
            known = self._drawn(dice, "submit")
            deadline_ms = self._deadline_ms(dice)
            try:
                future = self._classifier.submit(known.optical, known.sar, deadline_ms=deadline_ms)
            except Exception as error:
                self._enter("submit", known, error, {"Overloaded"})
                continue
            may_end = self._meddle(future, dice)
            if deadline_ms is not None:
                may_end.add("DeadlineExceeded")
            waiting.append((known, future, may_end))
        for known, future, may_end in waiting:
            self._enter("submit", known, self._outcome(future), may_end)

    def streams(self, dice: random.Random) -> None:
        """Ask by `Classifier.stream`; some sources raise, and some callers leave."""
        pulled: list[Known] = []
        length = dice.randint(1, 200)
        fails_at = dice.randrange(length) if dice.random() < 0.1 else None
        leaves_at = dice.randrange(length) if dice.random() < 0.1 else None

        def source() -> Iterator[tuple[Any, Any]]:
            for number in range(length):
                if number == fails_at:
                    raise SourceError
                pulled.append(self._drawn(dice, "stream"))
                yield pulled[-1].optical, pulled[-1].sar

        found = 0
        answers = self._classifier.stream(source())
        try:
            for answer in answers:
                self._enter("stream", pulled[found], answer)
                found += 1
                if found == leaves_at:
                    self._ledger.end("stream", "left by its caller", len(pulled) - found)
                    return
        except SourceError:
            if fails_at is None or found != fails_at:
                self._ledger.broke(f"stream: the source raised after {fails_at}, told at {found}")
        finally:
            answers.close()  # type: ignore[attr-defined]

    def coroutines(self, dice: random.Random) -> None:
        """Ask by `Classifier.aclassify` from a loop that ends; some do not wait for the answer."""
        asked = [self._drawn(dice, "aclassify") for _ in range(16)]
        timeouts_s = [dice.choice((1e-4, 1e-3, *[self._patience_s] * 6)) for _ in asked]
        for known, timeout_s, found in zip(
            asked, timeouts_s, asyncio.run(self._gathered(asked, timeouts_s)), strict=True
        ):
            if isinstance(found, asyncio.TimeoutError) and timeout_s < self._patience_s:
                self._ledger.made(76)
                self._ledger.end("aclassify", "cancelled")
            else:
                self._enter("aclassify", known, found, {"Overloaded"})

    async def _gathered(self, asked: list[Known], timeouts_s: list[float]) -> list[Any]:
        calls = [
            asyncio.wait_for(self._classifier.aclassify(known.optical, known.sar), timeout_s)
            for known, timeout_s in zip(asked, timeouts_s, strict=True)
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    def _drawn(self, dice: random.Random, way: str) -> Known:
        known = self._pairs.draw(dice)
        if known.row:
            self._ledger.made(known.row)
        self._ledger.ask(way)
        return known

    def _deadline_ms(self, dice: random.Random) -> float | None:
        if dice.random() < 0.9:
            return None
        self._ledger.made(72)
        return dice.choice((0.01, 1.0, 5.0, 1e3 * self._patience_s))

    def _meddle(self, future: Future[Prediction], dice: random.Random) -> set[str]:
        """Do to a future what its owner may: cancel it, or hang callbacks of all kinds on it.

        Returns:
            How it may end because of that, and in no other way.
        """
        kind = dice.random()
        if kind < 0.08:
            self._ledger.made(73)
            return {"cancelled"} if future.cancel() else set()
        if kind < 0.16:
            self._ledger.made(74)
            future.add_done_callback(dice.choice((_raise, _block, self._ask_again)))
        return set()

    def _ask_again(self, _: Future[Prediction]) -> None:
        """Ask from within a callback, and wait for the answer."""
        known = self._pairs.good[0]
        self._ledger.ask("submit in a callback")
        found: object
        try:
            found = self._outcome(self._classifier.submit(known.optical, known.sar))
        except Exception as error:
            found = error
        may_end = {"Overloaded", "ClosedError", "cancelled"}  # it may run while all is closed
        self._enter("submit in a callback", known, found, may_end)

    def _outcome(self, future: Future[Prediction]) -> object:
        try:
            return future.result(self._patience_s)
        except (Exception, CancelledError) as error:
            return error

    def _enter(self, way: str, known: Known, found: object, may_end: Collection[str] = ()) -> None:
        if isinstance(found, FutureTimeoutError) and not isinstance(found, EsccsError):
            self._ledger.broke(f"{way}: no answer within {self._patience_s:g} s")
            return  # so that it stays open
        self._ledger.end(way, how_it_ended(known, found, may_end))
        if isinstance(found, Overloaded):
            self._ledger.made(71)
            time.sleep(0.01)


def how_it_ended(known: Known, found: object, may_end: Collection[str] = ()) -> str:
    """Return one of `ledger.ENDS`, or what is wrong in words.

    Args:
        known: What was asked.
        found: Its answer, or what was raised.
        may_end: Ends that are right too, besides that of the pair itself.
    """
    name = "cancelled" if isinstance(found, CancelledError) else type(found).__name__
    if name in may_end:
        return name
    if known.answer is None:
        right = isinstance(found, InputError)
        return name if right else f"{found!r} of a pair to be refused (row {known.row})"
    if known.is_answered_by(found):
        return "answered"
    if isinstance(found, Prediction):
        return f"wrong: {found.label} {found.confidence:.4f} instead of {known.answer}"
    return f"{found!r} of a pair to be answered (row {known.row})"


def _raise(_: Future[Prediction]) -> None:
    raise ArithmeticError("a caller's callback raises")


def _block(_: Future[Prediction]) -> None:
    time.sleep(0.05)
