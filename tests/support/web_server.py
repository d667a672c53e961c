"""A web server on this machine that serves a folder by ranges, or takes a connection and is silent.

It runs in a process of its own: while GDAL waits, it may hold what a thread of this one needs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Ranges(BaseHTTPRequestHandler):
    """Serves files of a folder; of those named ``silent...`` the first half, then nothing."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        file = self.folder / self.path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        start, stop = 0, len(content)
        asked = self.headers.get("Range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or stop), stop - 1) + 1
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        if file.name.startswith("silent"):
            self.wfile.write(content[start : (start + stop) // 2])
            self.wfile.flush()
            self.rfile.read(1)  # until the other side gives up
            return
        self.wfile.write(content[start:stop])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serve a folder; yields the address of its root."""
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


if __name__ == "__main__":
    Ranges.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    print(server.server_port, flush=True)
    server.serve_forever()
