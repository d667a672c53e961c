"""How much device memory the lanes of a backend may take together.

Counted are their buffers and the engine's activations, which is all that grows with the number of
lanes and the batch; the engine's weights and the CUDA context are there before.
"""

from __future__ import annotations

import os
import threading

from ...errors import BackendError, InputError, Remedy

#: Environment variable with the same meaning as ``TrtBackend(memory=...)``.
VARIABLE = "ESCCS_GPU_MEMORY"


class MemoryBudget:
    """Counts what lanes take against a limit. Thread-safe.

    Args:
        limit: Most bytes; None for no limit.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Count bytes that are about to be allocated.

        Raises:
            BackendError: They would exceed the limit; nothing was counted.
        """
        with self._lock:
            if self.limit is not None and self.used + size > self.limit:
                raise BackendError(
                    f"one more lane needs {self.used + size:,} bytes of GPU memory or more with "
                    f"those that are open, expected at most {self.limit:,}",
                    hint=f"Use fewer lanes or a smaller max_batch, or raise {VARIABLE}",
                    action=Remedy.SMALLER_BATCH,
                )
            self.used += size

    def give(self, size: int) -> None:
        """Count bytes as free again."""
        with self._lock:
            self.used -= size


def limit_of(memory: float | None, free_bytes: int) -> int | None:
    """Return the limit in bytes, or None.

    Args:
        memory: Up to 1 a share of ``free_bytes``, above 1 a number of bytes; None is what
            ``ESCCS_GPU_MEMORY`` says, or no limit.
        free_bytes: Device memory that is free now.

    Raises:
        InputError: It is not a positive number.
    """
    wanted: float | str | None = os.environ.get(VARIABLE) or None if memory is None else memory
    if wanted is None:
        return None
    try:
        number = float(wanted)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf"):
        raise InputError(
            f"GPU memory budget is {wanted!r}, expected a share up to 1 or a number of bytes",
            hint=f"Set {VARIABLE} or memory to such as 0.5 or 268435456",
        )
    return int(number * free_bytes if number <= 1 else number)
