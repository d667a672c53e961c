"""Runs the service until it is told to end, and lets it finish what it has begun."""

from __future__ import annotations

import ipaddress
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from ..errors import InputError
from .app import make_app
from .gatekeeper import Gatekeeper
from .service import Service

#: Under these a service on the loopback interface may be asked, and under no name of a web page.
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_BACKLOG = 256
#: Connections beside those that bring files.
_CONNECTIONS = 128


def serve(
    service: Service,
    listener: socket.socket,
    *,
    names: tuple[str, ...] = (),
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Answer requests until SIGTERM, SIGINT or SIGHUP, then drain.

    Args:
        service: What answers; it is closed at the end.
        listener: Of `listen`.
        names: Host names under which it may be asked beside its address; empty: on the loopback
            interface those of this machine, else any.
        started: Called with the address of the page once connections are taken.
    """
    bound = listener.getsockname()
    is_loopback = ipaddress.ip_address(bound[0]).is_loopback
    hosts = (*names, *LOOPBACK_NAMES) if names or is_loopback else ("*",)
    keeper = make_app(service, hosts)
    config = uvicorn.Config(
        keeper,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=int(service.limits.drain_s) or 1,
        limit_concurrency=_CONNECTIONS + 4 * service.limits.open_requests,
        h11_max_incomplete_event_size=16 << 10,
        ws="none",
    )
    shown = f"[{bound[0]}]" if listener.family == socket.AF_INET6 else bound[0]
    server = _Server(config, keeper, lambda: started(f"http://{shown}:{bound[1]}"))
    try:
        server.run(sockets=[listener])
    finally:
        service.close()


class _Server(uvicorn.Server):
    """Ends by signal once, without raising it again: an end in order is no failure."""

    should_exit: bool

    def __init__(
        self, config: uvicorn.Config, keeper: Gatekeeper, started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._keeper, self._started = keeper, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, _: FrameType | None) -> None:
            self.force_exit = self.should_exit  # a second order is obeyed at once
            self.should_exit = self._keeper.draining = True
            print(f"{signal.Signals(number).name}: draining", file=sys.stderr, flush=True)

        numbers = [
            getattr(signal, n) for n in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, n)
        ]
        before = {number: signal.signal(number, end) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """Take an address; connections wait until `serve` answers them.

    Args:
        host: Name or number of an interface of this machine.
        port: Port; 0: any that is free.

    Raises:
        InputError: It cannot be listened there.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise InputError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}",
            hint="Choose another --port, or end what listens there",
        ) from None
    return listener
