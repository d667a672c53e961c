"""Every error this package raises on purpose, in one tree.

    EsccsError
    ├── InputError (ValueError)                 the pixels or arguments handed in
    ├── RasterError                             a raster file that cannot be read or written
    ├── ManifestError                           a manifest that breaks its contract
    ├── ArtifactError                           a bundle file that is missing, changed or unsafe
    ├── BackendError (RuntimeError)             the engine that runs the network
    │   └── CudaError                           a CUDA driver call
    ├── Overloaded                              the queue is full
    ├── DeadlineExceeded (TimeoutError)         the answer would have come too late
    ├── ClosedError (RuntimeError)              used after close()
    ├── ForkedProcessError (RuntimeError)       used in a forked child
    └── MissingDependencyError (ImportError)    an optional package is not installed

A message says what was found and what was expected; the hint says what to do about it.
"""

from __future__ import annotations

from enum import Enum
from typing import Any


class EsccsError(Exception):
    """Base of all errors raised by esccs-edge.

    Attributes:
        code: Stable identifier for programs, such as ``"input"``.
        hint: What the user can do about it; may be empty.
    """

    code = "esccs"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class InputError(EsccsError, ValueError):
    """Pixels or arguments that the model cannot judge."""

    code = "input"


class RasterError(EsccsError):
    """A raster that cannot be read, does not match its partner, or cannot be written."""

    code = "raster"


class ManifestError(EsccsError):
    """A manifest that is missing, malformed or inconsistent."""

    code = "manifest"


class ArtifactError(EsccsError):
    """A bundle file that is missing, altered, or not safe to load."""

    code = "artifact"


class Remedy(str, Enum):
    """What may help after a `BackendError`; a text equal to its value.

    Attributes:
        NONE: Nothing is known to help.
        RETRY: Ask again.
        SMALLER_BATCH: Open the model with a smaller ``max_batch`` or fewer ``lanes``.
        REBUILD: Build the engine again.
        RESTART: Start a new process; nothing on this device can be trusted.
    """

    NONE = ""
    RETRY = "retry"
    SMALLER_BATCH = "smaller-batch"
    REBUILD = "rebuild"
    RESTART = "restart"

    def __str__(self) -> str:
        return self.value


class BackendError(EsccsError, RuntimeError):
    """The inference engine failed or returned something unusable.

    Attributes:
        action: What may help.
    """

    code = "backend"

    def __init__(self, message: str, *, hint: str = "", action: Remedy = Remedy.NONE) -> None:
        super().__init__(message, hint=hint)
        self.action = action


class CudaError(BackendError):
    """A CUDA driver call failed."""

    code = "cuda"


class Overloaded(EsccsError):
    """The request queue is full; nothing was enqueued."""

    code = "overloaded"


class DeadlineExceeded(EsccsError, TimeoutError):
    """The request was dropped because its deadline passed before it could run."""

    code = "deadline"


class ClosedError(EsccsError, RuntimeError):
    """The object was used after ``close()``."""

    code = "closed"


class ForkedProcessError(EsccsError, RuntimeError):
    """A resource made before ``fork()`` was used in the child process."""

    code = "forked"


class MissingDependencyError(EsccsError, ImportError):
    """An optional package is needed for this call and is not installed."""

    code = "missing-dependency"

    @classmethod
    def for_extra(
        cls, package: str, extra: str, purpose: str, cause: ImportError | None = None
    ) -> MissingDependencyError:
        """Build the error for a package that one of our extras installs.

        Args:
            package: Its name.
            extra: The extra.
            purpose: What needs it.
            cause: What importing it raised; it may be there and not load.
        """
        if cause is not None and not isinstance(cause, ModuleNotFoundError):
            return cls(
                f"{purpose} needs the package {package}, which does not load: {cause}",
                hint=f"Look at the memory this process may use; or install {package} again",
            )
        return cls(
            f"{purpose} needs the package {package}, which is not installed",
            hint=f'Run: pip install "esccs-edge[{extra}]"',
        )


def error_document(code: str, message: str, hint: str = "") -> dict[str, Any]:
    """Return the JSON form of an error, as the command line and the service give it.

    Returns:
        ``{"error": {"code", "message", "found", "expected", "hint"}}``; None where a message does
        not say what was expected, and where there is no hint.
    """
    found, _, expected = message.partition(", expected ")
    return {
        "error": {
            "code": code,
            "message": message,
            "found": found if expected else None,
            "expected": expected or None,
            "hint": hint or None,
        }
    }
