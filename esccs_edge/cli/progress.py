"""Progress of a long command on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import click

#: Seconds between two plain lines in a log file.
LINE_EVERY_S = 5.0
BAR_WIDTH = 30


class Progress:
    """Counts towards a total; use as a context manager and call it with the number done."""

    def __init__(self, label: str, total: int) -> None:
        self.label = label
        self.total = max(total, 1)
        self._on_terminal = sys.stderr.isatty()
        self._done = 0
        self._last = time.monotonic()

    def __enter__(self) -> Progress:
        self._show() if self._on_terminal else click.echo(f"{self.label} ...", err=True)
        return self

    def __call__(self, done: int, total: int | None = None) -> None:
        """Tell that ``done`` of the total (or of a new ``total``) is finished."""
        self._done, self.total = done, total or self.total
        now = time.monotonic()
        if now - self._last >= (0.1 if self._on_terminal else LINE_EVERY_S):
            self._last = now
            self._show()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._on_terminal:
            self._show()
            click.echo(err=True)

    def _show(self) -> None:
        share = min(self._done / self.total, 1.0)
        if not self._on_terminal:
            click.echo(f"{self.label}: {self._done} of {self.total}", err=True)
            return
        filled = round(share * BAR_WIDTH)
        bar = "#" * filled + "-" * (BAR_WIDTH - filled)
        click.echo(f"\r{self.label} [{bar}] {share:4.0%}", err=True, nl=False)
