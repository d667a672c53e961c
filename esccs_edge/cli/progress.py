"""Progress of a long command on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

import click

#: Seconds between two plain lines in a log file, and between two pictures of the bar.
LINE_EVERY_S = 5.0
BAR_EVERY_S = 0.1
BAR_WIDTH = 30


class Progress:
    """Names a piece of work and counts its parts; a context manager, called with the number done.

    Work that is never counted is shown by its name alone.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._on_terminal = sys.stderr.isatty()
        self._done, self._total = 0, 0
        self._shown_s = time.monotonic()

    def __enter__(self) -> Progress:
        click.echo(f"{self._label} ...", err=True, nl=not self._on_terminal)
        return self

    def __call__(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` parts are finished."""
        self._done, self._total = done, total
        now_s = time.monotonic()
        if now_s - self._shown_s >= (BAR_EVERY_S if self._on_terminal else LINE_EVERY_S):
            self._shown_s = now_s
            self._show()

    def __exit__(self, *_: object) -> None:
        if self._on_terminal:
            self._show()
            click.echo(err=True)

    def _show(self) -> None:
        if not self._on_terminal:
            click.echo(f"{self._label}: {self._done} of {self._total}", err=True)
        elif self._total:
            share = min(self._done / self._total, 1.0)
            filled = round(share * BAR_WIDTH)
            bar = "#" * filled + "-" * (BAR_WIDTH - filled)
            click.echo(f"\r{self._label} [{bar}] {share:4.0%}", err=True, nl=False)
