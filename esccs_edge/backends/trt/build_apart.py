"""`build_plan` in a process of its own, so that the builder's memory goes away with it.

TensorRT's builder maps about a gigabyte and keeps it mapped, which a small Jetson cannot spare for
the life of a service. The child gets its work on standard input and answers on standard output;
each message is a line of JSON that ends with the sizes of the byte strings behind it.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import IO, Any

from ... import errors
from ...contracts.manifest import BatchProfile, Manifest
from ...errors import BackendError, EsccsError, Remedy
from .build import BuildCallback, BuildOptions, BuiltPlan, build_plan
from .library import Flavor, load_flavor

_SERVE = "from esccs_edge.backends.trt.build_apart import serve; serve()"
_log = logging.getLogger("esccs_edge.tensorrt")


def build_apart(
    flavor: Flavor,
    onnx: bytes,
    manifest: Manifest,
    options: BuildOptions,
    *,
    progress: BuildCallback | None = None,
    timing_cache: bytes | None = None,
) -> BuiltPlan:
    """See `build_plan`; where no other Python can be started, it is built in this process.

    Raises:
        EsccsError: As `build_plan`.
        BackendError: The child ended without an answer; with ``"smaller-batch"`` if it was killed,
            as it is where there is too little memory.
    """
    if not sys.executable:
        return build_plan(
            flavor, onnx, manifest, options, progress=progress, timing_cache=timing_cache
        )
    work = {
        "flavor": flavor.name,
        "manifest": manifest.to_json(),
        "options": asdict(options),
        "progress": progress is not None,
    }
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"},
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            with child.stdin:
                _send(child.stdin, work, onnx, timing_cache)
            answer = _listen(child.stdout, progress)
        except BrokenPipeError:
            answer = None
        except BaseException:  # a callback cancels by raising; a broken pipe is told below
            child.kill()
            raise
        status = child.wait()
    if isinstance(answer, BuiltPlan):
        return answer
    raise answer or _silent(status)


def _send(stream: IO[bytes], message: Mapping[str, Any], *parts: bytes | None) -> None:
    sizes = [None if part is None else len(part) for part in parts]
    stream.write(json.dumps({**message, "sizes": sizes}).encode() + b"\n")
    for part in parts:
        stream.write(part or b"")
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes | None]]:
    """Read one message.

    Raises:
        ValueError: The stream ended, or holds something else.
    """
    message = json.loads(stream.readline())
    parts = [None if size is None else stream.read(size) for size in message.pop("sizes")]
    return message, parts


def _listen(stdout: IO[bytes], progress: BuildCallback | None) -> BuiltPlan | EsccsError | None:
    """Pass on what is told meanwhile, and return the answer if there is one."""
    while True:
        try:
            message, parts = _receive(stdout)
        except ValueError:
            return None
        if "log" in message:
            _log.log(message["level"], "%s", message["log"])
        elif "phase" in message and progress is not None:
            progress(*message["phase"])
        elif "error" in message:
            return _as_error(message)
        elif "layers" in message:
            plan, timing_cache = parts
            return BuiltPlan(plan or b"", timing_cache, message["layers"])


def _as_error(message: Mapping[str, Any]) -> EsccsError:
    kind: type[EsccsError] = getattr(errors, message["error"])
    error = kind(message["message"], hint=message["hint"])
    if isinstance(error, BackendError):
        error.action = Remedy(message["action"])
    return error


def _silent(status: int) -> BackendError:
    if status < 0:
        return BackendError(
            f"the process that built the engine was killed by signal {-status}",
            hint="Perhaps memory ran out (see dmesg): close other programs, or build elsewhere",
            action=Remedy.SMALLER_BATCH,
        )
    return BackendError(
        f"the process that built the engine ended with status {status} and no answer",
        hint="What it said stands on standard error",
    )


class _Forward(logging.Handler):
    """TensorRT's log of the child, told to the parent."""

    def __init__(self, tell: Any) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell({"log": record.getMessage(), "level": record.levelno})


def serve() -> None:
    """What the child does."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that what a library prints does not come between the answers

    def tell(message: Mapping[str, Any], *parts: bytes | None) -> None:
        _send(answers, message, *parts)

    work, (onnx, timing_cache) = _receive(sys.stdin.buffer)
    options = BuildOptions(**{**work["options"], "batch": BatchProfile(**work["options"]["batch"])})
    _log.addHandler(_Forward(tell))
    _log.setLevel(logging.INFO)
    told = (lambda *steps: tell({"phase": steps})) if work["progress"] else None
    try:
        built = build_plan(
            load_flavor(work["flavor"]),
            onnx or b"",
            Manifest.from_json(work["manifest"]),
            options,
            progress=told,
            timing_cache=timing_cache,
        )
        tell({"layers": built.layers}, built.plan, built.timing_cache)
    except EsccsError as error:
        action = getattr(error, "action", Remedy.NONE)
        tell(
            {"error": type(error).__name__, "message": error.message, "hint": error.hint,
             "action": action.value}
        )  # fmt: skip
