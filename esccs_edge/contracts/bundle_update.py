"""How the files of a bundle are replaced, so that a kill at any moment leaves a whole bundle.

A file that the manifest on disk vouches for is not touched before another manifest stands. The
content that replaces it is written beside it under its digest; then the manifest is replaced, which
is the one step that counts; then the content takes its name. A reader that finds the old content
under the name takes the one beside it. What a kill left undone is done by whoever opens the bundle
next.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ArtifactError, ManifestError
from ..system.atomic import sync_folder, write_atomic
from ..system.file_lock import folder_lock, folder_lock_if_any
from ..system.regular_file import read_regular
from ..system.working_folder import remove_ownerless
from .bundle_files import MANIFEST
from .manifest import MAX_MANIFEST_BYTES, FileRecord, Manifest

#: How long to wait for another process that updates the same bundle.
LOCK_TIMEOUT_S = 60.0
_WAITING = re.compile(r"\.(.+)\.([0-9a-f]{64})\.next")


def places_of(folder: Path, name: str, record: FileRecord) -> tuple[Path, Path]:
    """Return where a file may lie: under its name, or beside it while it waits to take it."""
    return folder / name, folder / f".{name}.{record.sha256}.next"


@contextmanager
def update_lock(folder: Path) -> Iterator[None]:
    """Keep other updates of a bundle out.

    Raises:
        ArtifactError: Another one does not end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock_if_any(folder, timeout_s=LOCK_TIMEOUT_S) as held:
        if not held:
            raise ArtifactError(
                f"another process has been updating {folder} for {LOCK_TIMEOUT_S:.0f} s",
                hint="Wait for it, or end it",
            )
        yield


def replace_files(
    folder: Path,
    before: Manifest | None,
    after: Manifest,
    files: Mapping[str, bytes],
    dropped: Collection[str] = (),
) -> None:
    """Write files and the manifest that vouches for them, all or none.

    Args:
        folder: The bundle's, under its `update_lock`.
        before: Manifest that stands there; None where there is none.
        after: The one to put in its place; lists the files.
        files: Name -> content of those that are new or changed.
        dropped: Files that the new manifest does not list; removed.
    """
    vouched = {} if before is None else before.files
    for name, content in files.items():
        record = after.files[name]
        target, beside = places_of(folder, name, record)
        write_atomic(beside if name in vouched and vouched[name] != record else target, content)
    write_atomic(folder / MANIFEST, after.to_json())
    for name in dropped:
        (folder / name).unlink(missing_ok=True)
    _finish(folder, after)


def settle(folder: Path, opened: bytes, manifest: Manifest) -> None:
    """Do what a killed update left undone, and remove what it left behind.

    Nothing happens while another process updates the bundle, or where this one may not write.

    Args:
        folder: The bundle's.
        opened: Text of the manifest that was read there.
        manifest: The same, parsed.
    """
    with suppress(OSError):
        if not any(name.startswith(".") for name in os.listdir(folder)):
            return
        with folder_lock(folder) as is_free:
            if is_free and standing_text(folder) == opened:
                remove_ownerless(folder)
                _finish(folder, manifest)


def standing_text(folder: Path) -> bytes | None:
    """Return the text of the manifest that a folder holds now; None where there is none.

    Raises:
        ManifestError: It cannot be read.
    """
    try:
        return read_regular(folder / MANIFEST, MAX_MANIFEST_BYTES, links=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ManifestError(f"cannot read {folder / MANIFEST}: {error.strerror}") from None


def _finish(folder: Path, manifest: Manifest) -> None:
    """Give waiting contents their names; remove those that no manifest vouches for."""
    for entry in os.listdir(folder):
        if not (waiting := _WAITING.fullmatch(entry)):
            continue
        name, digest = waiting.groups()
        record = manifest.files.get(name)
        if record is None or record.sha256 != digest or _holds(folder / name, record):
            (folder / entry).unlink(missing_ok=True)
        else:
            os.replace(folder / entry, folder / name)
    sync_folder(folder)


def _holds(path: Path, record: FileRecord) -> bool:
    try:
        content = read_regular(path, record.bytes)
    except (OSError, ArtifactError):
        return False
    return hashlib.sha256(content).hexdigest() == record.sha256
