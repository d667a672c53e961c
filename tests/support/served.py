"""A service in a process of its own on this machine, and requests as they go over the wire."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np


class Served:
    """A running service.

    Attributes:
        process: Its process.
        port: Where it listens, on 127.0.0.1.
    """

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body (JSON if it is) and headers of one request."""
        connection = self.connection()
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            content, found = answer.read(), {k.lower(): v for k, v in answer.getheaders()}
            if found.get("content-type", "").startswith("application/json"):
                content = json.loads(content)
            return answer.status, content, found
        finally:
            connection.close()

    def post(self, path: str, **files: bytes) -> tuple[int, Any, Mapping[str, str]]:
        """Send files as a browser does."""
        body, kind = form(**files)
        return self.ask("POST", path, body, content_type=kind)

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def form(**files: bytes) -> tuple[bytes, str]:
    """Multipart body and its content type."""
    mark = secrets.token_hex(8)
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files.items()
    ]
    return b"".join(parts) + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def npy(pixels: Any) -> bytes:
    """An array as the bytes of a .npy file."""
    buffer = BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


@contextmanager
def served(bundle: Path, folder: Path, *words: str) -> Iterator[Served]:
    """Serve a bundle with the command line; ``folder`` is its directory and holds its files."""
    for name in ("cwd", "tmp"):
        (folder / name).mkdir(parents=True)
    command = [sys.executable, "-m", "esccs_edge", "serve", "--port", "0", "--bundle", str(bundle)]
    process = subprocess.Popen(
        [*command, *words],
        cwd=folder / "cwd",
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("listening at "):
                yield Served(process, int(line.rpartition(":")[2]))
                break
        else:
            raise AssertionError("".join(lines))
    finally:
        process.kill()
        process.communicate()
