"""Who asked for what and how it ended: the accounts of a long run.

Each request is entered when it is asked for and once more when it ends; what is missing at the end
was lost. Counts of the model itself are not used, so that they can be held against these.
"""

from __future__ import annotations

import threading
import traceback
from collections import Counter

#: How a request may end; another kind of error is a broken promise.
ENDS = (
    "answered",
    "Overloaded",
    "InputError",
    "DeadlineExceeded",
    "BackendError",
    "RasterError",
    "ClosedError",
    "cancelled",
    "left by its caller",
)
#: Broken promises that are told in full; the rest is counted.
TOLD = 50


class Ledger:
    """Counts of requests, of faults that were made, and promises that broke. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[int] = Counter()
        self.broken: list[str] = []
        self.breaks = 0

    def ask(self, way: str, count: int = 1) -> None:
        """Enter requests before they are made."""
        with self._lock:
            self.asked[way] += count

    def end(self, way: str, how: str, count: int = 1) -> None:
        """Enter how requests ended, with one of `ENDS`; any other word breaks a promise."""
        with self._lock:
            self.ended[way, how] += count
        if how not in ENDS:
            self.broke(f"{way}: {how}")

    def made(self, row: int) -> None:
        """Count a fault of that row of the catalog."""
        with self._lock:
            self.faults[row] += 1

    def broke(self, what: str) -> None:
        """Enter a promise that was not kept."""
        with self._lock:
            self.breaks += 1
            if len(self.broken) < TOLD:
                self.broken.append(what)

    def broke_by(self, where: str, error: BaseException) -> None:
        """Enter an error that nothing should have raised."""
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        self.broke(f"{where}: {''.join(lines[-3:]).strip()}")

    def open_requests(self) -> dict[str, int]:
        """Return way -> requests whose end was not entered; a negative count ended twice."""
        with self._lock:
            ended: Counter[str] = Counter()
            for (way, _), count in self.ended.items():
                ended[way] += count
            return {way: asked - ended[way] for way, asked in self.asked.items()}
