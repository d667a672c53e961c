"""A run folder has one process at work in it, and no process that died keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from esccs_edge.errors import InputError
from esccs_edge.system.file_lock import folder_lock_if_any
from esccs_edge.system.working_folder import remove_ownerless


@contextmanager
def own_run_folder(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder, which is made; sweep what killed ones left.

    Raises:
        InputError: Another process is at work in it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {folder}: {error.strerror}") from None
    with folder_lock_if_any(folder) as held:
        if not held:
            raise InputError(
                f"another process is at work in {folder}",
                hint="Wait for it or end it; or give a folder of its own",
            )
        remove_ownerless(folder, deep=True)
        try:
            yield
        finally:
            with suppress(OSError):  # a refusal leaves nothing: removed where it is empty
                folder.rmdir()
