"""An order to end (SIGINT, SIGTERM, SIGHUP) unwinds a command like an error, so that it cleans up.

What was accepted is answered, working folders go, and files are what they were or what they were to
be. The process then ends by the same signal, which tells whoever sent it that it was obeyed.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click


class Ended(BaseException):
    """The process was asked to end. No `Exception`, so that nothing takes it for a failure."""


@contextmanager
def unwinding_on_signals(hint: str) -> Iterator[None]:
    """Turn signals into exceptions while the block runs; end by the signal afterwards.

    What comes out of the block after an order does not matter: libraries turn the exception into
    another, exit, or swallow it where it arrives in a callback. A second signal ends the process at
    once. Signals that the caller ignores stay ignored, and outside the main thread nothing is done.

    Args:
        hint: How to go on after such an end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    orders: list[signal.Signals] = []

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        orders.append(signal.Signals(number))
        raise KeyboardInterrupt if number == signal.SIGINT else Ended(number)

    before = {number: signal.getsignal(number) for number in _signals()}
    ours = [n for n, handler in before.items() if _is_nobodys(handler)]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    except BaseException:
        if not orders:
            raise
    finally:
        for number in ours:
            signal.signal(number, before[number])
    if orders:
        click.echo(f"error: ended by {orders[0].name}\nhint: {hint}", err=True)
        signal.signal(orders[0], signal.SIG_DFL)
        os.kill(os.getpid(), orders[0])
        raise Ended(orders[0])


def how_to_go_on(options: Mapping[str, Any]) -> str:
    """Return the hint of a command with these options that is ended before it is done."""
    again = "Nothing half-finished is left under its final name. Run the same command again"
    if "resume" not in options:
        return f"{again}; finished parts are kept" if "folds" in options else again
    if options["resume"] or options.get("catalog") is not None:
        return f"{again} to go on where it stopped"
    if "catalog" in options:
        return f"{again}; a map that is begun with --resume goes on where it stopped"
    return f"{again} with --resume to go on where it stopped"


def _is_nobodys(handler: Any) -> bool:
    return handler in (signal.SIG_DFL, signal.default_int_handler)


def _signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
