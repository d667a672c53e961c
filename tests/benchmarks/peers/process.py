"""The caller's end of a `worker`: start it, give orders, read replies, end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from esccs_edge.errors import BackendError

from . import known

#: Compiling for one batch size takes `torch.compile` up to a minute on a busy machine.
REPLY_TIMEOUT_S = 300.0
#: The folder that this package is imported from.
_TESTS = Path(__file__).parents[2]
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class PeerProcess:
    """A peer in a process of its own, ready to answer; a context manager.

    Args:
        name: A name in `PEERS`.
        bundle: Folder of the bundle.
        pixels: Folder with ``optical.npy`` and ``sar.npy``.
        threads: CPU threads; None for the peer's own choice.
        backend: Backend of our own row.

    Attributes:
        first: What the worker reported after its first label: ``import_ms`` and ``first_label_ms``
            since the process was started, ``peak_rss_mb`` and ``about``.

    Raises:
        BackendError: The peer cannot run here; the message is the reason.
        InputError: There is no such peer.
    """

    def __init__(
        self, name: str, bundle: Path, pixels: Path, threads: int | None, backend: str
    ) -> None:
        self.name = known(name)
        task = {"peer": name, "bundle": os.path.abspath(bundle), "pixels": os.path.abspath(pixels),
                "threads": threads, "backend": backend, "started_s": time.monotonic()}  # fmt: skip
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.worker", json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            cwd=sys.prefix,  # `-m` imports from the current folder first
            env=_environment(threads),
        )
        try:
            self.first = self._reply()
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, batch: int, **order: Any) -> dict[str, Any]:
        """Give an order and wait for its reply.

        Raises:
            BackendError: The worker failed, ended, or took too long.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, "batch": batch, **order}) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failure(f"it ended before it was asked: {error}") from error
        return self._reply()

    def close(self) -> None:
        """End the process. Idempotent."""
        try:
            self._process.communicate(timeout=10)
        except (subprocess.TimeoutExpired, ValueError, OSError):
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        is_late = threading.Event()

        def stop_late() -> None:
            is_late.set()
            self._process.kill()

        watch = threading.Timer(REPLY_TIMEOUT_S, stop_late)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if is_late.is_set():
            raise self._failure(f"it did not reply within {REPLY_TIMEOUT_S:g} s")
        if not line:
            raise self._failure(self._last_message())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise self._failure(reply["error"])
        return reply

    def _failure(self, reason: str) -> BackendError:
        return BackendError(f"{self.name} cannot be timed: {reason}")

    def _last_message(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().strip().splitlines()
        return lines[-1] if lines else f"its process ended with code {code} and said nothing"


def _environment(threads: int | None) -> dict[str, str]:
    """Bound the threads of libraries that read their number when they are loaded."""
    bound = {} if threads is None else dict.fromkeys(_THREAD_VARIABLES, str(threads))
    path = os.pathsep.join(filter(None, (str(_TESTS), os.environ.get("PYTHONPATH"))))
    return {**os.environ, **bound, "PYTHONPATH": path}
