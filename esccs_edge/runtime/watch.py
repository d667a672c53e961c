"""Looks after a model on a period, in a thread of its own, for as long as the model is in use."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable

from ..errors import ClosedError, ForkedProcessError

_log = logging.getLogger("esccs_edge.runtime")


class Watch:
    """Calls a bound method every so often; ends with its object, or by `stop`.

    Args:
        look: Method of the object to look after, which this does not keep alive.
        every_s: Seconds from the end of one look to the next.
    """

    def __init__(self, look: Callable[[], None], every_s: float) -> None:
        self._stopped = threading.Event()
        thread = threading.Thread(
            target=_watch,
            args=(weakref.WeakMethod(look), every_s, self._stopped),
            name="esccs-edge-watch",
            daemon=True,
        )
        thread.start()

    def stop(self) -> None:
        """End soon; a look that is under way goes on."""
        self._stopped.set()


def _watch(
    look_of: weakref.WeakMethod[Callable[[], None]], every_s: float, stopped: threading.Event
) -> None:
    while not stopped.wait(every_s):
        look = look_of()
        if look is None:
            return
        try:
            look()
        except (ClosedError, ForkedProcessError):
            return
        except Exception:  # a look that fails must not be the last one
            _log.exception("the model could not be looked after")
        del look
