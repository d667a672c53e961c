"""The door of the service: it refuses by size, time and number before anything is parsed.

An ASGI application around the other one, so that what it counts is what comes over the wire.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ..errors import error_document
from .limits import MEGABYTE, Limits
from .metrics import REJECTED, Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

#: An upload may take so many times the longest pause in all.
_PAUSES = 10
#: What keeps answers from being read as something else, on every one of them.
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class _Refused(Exception):
    """The body of a request is not read to its end."""


class Gatekeeper:
    """Lets a request in, or answers it at once.

    Args:
        application: What answers the others.
        limits: Of the service.
        metrics: Counts the refusals.
        hosts: Names under which the service may be asked, without a port; ``"*"``: any. A web page
            elsewhere that points a name of its own at this machine is refused by them.

    Attributes:
        draining: Refuses everything that brings files, since the service ends.
        open_requests: Requests with files that are worked on.
    """

    def __init__(
        self,
        application: Application,
        limits: Limits,
        metrics: Metrics,
        hosts: tuple[str, ...] = ("*",),
    ) -> None:
        self._application, self._limits, self._metrics = application, limits, metrics
        self._hosts = hosts
        self.draining = False
        self.open_requests = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
        elif not self._is_for_us(dict(scope["headers"]).get(b"host", b"").decode("latin-1")):
            words = f"the host name is not known, expected one of {', '.join(self._hosts)}"
            await self._refuse(_with_headers(send), 421, "usage", words)
        elif scope["method"] != "POST":
            await self._application(scope, receive, _with_headers(send))
        else:
            await self._let_in(scope, receive, _with_headers(send))

    def _is_for_us(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return "*" in self._hosts or name.lower() in self._hosts

    async def _let_in(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        largest = self._limits.largest_body(scope["path"])
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if self.draining:
            await self._refuse(send, 503, "closed", "the service ends")
        elif self.open_requests >= self._limits.open_requests:
            words = f"{self.open_requests} requests are open, expected fewer"
            await self._refuse(send, 429, "overloaded", words)
        elif declared.isdigit() and int(declared) > largest:
            await self._refuse(send, 413, "input", _too_large(int(declared), largest))
        else:
            self.open_requests += 1
            try:
                await self._watched(scope, receive, send, largest)
            finally:
                self.open_requests -= 1

    async def _watched(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, largest: int
    ) -> None:
        refusal: list[tuple[int, str, str]] = []
        seen, pause_s, started_s, is_whole = 0, self._limits.upload_s, time.monotonic(), False

        async def counted() -> Message:
            nonlocal seen, is_whole
            if is_whole:
                return await receive()  # that the client went away
            left_s = min(pause_s, started_s + _PAUSES * pause_s - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), max(left_s, 0.001))
            except asyncio.TimeoutError:
                refusal.append((408, "deadline", "the upload took too long"))
                raise _Refused from None
            seen += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if seen > largest:
                refusal.append((413, "input", _too_large(seen, largest)))
                raise _Refused
            return message

        async def unless_refused(message: Message) -> None:
            if not refusal:
                await send(message)

        try:
            await self._application(scope, counted, unless_refused)
        except _Refused:
            pass
        if refusal:
            await self._refuse(send, *refusal[0])

    async def _refuse(self, send: Send, status: int, code: str, message: str) -> None:
        """Answer and close the connection: what is left of the body is not read."""
        self._metrics.failed(REJECTED)
        body = json.dumps(error_document(code, message)).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *([(b"retry-after", b"1")] if status in (429, 503) else []),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sent


def _too_large(found: int, largest: int) -> str:
    return (
        f"the request brings {found / MEGABYTE:.3g} MB or more, expected at most "
        f"{largest / MEGABYTE:g} MB"
    )
