"""What was compiled on this machine, kept in a folder that only this user can write.

Entries are TensorRT engines, OpenVINO blobs and the like: native code, so nothing leaves this cache
unless its HMAC, made with a secret of this user, and its whole key match. Whatever does not is
moved aside and compiled again. An entry is
``magic | key length | key JSON | content | HMAC-SHA256 over all before``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..errors import ArtifactError, BackendError
from .atomic import atomic_path
from .file_lock import file_lock
from .working_folder import remove_ownerless

#: What identifies an entry; JSON values only.
Key = Mapping[str, Any]

_MAGIC = b"esccs-edge cache 1\n"
_LENGTH = struct.Struct("<I")
_HMAC_BYTES = 32
_SECRET_BYTES = 32
#: Longer than any build of such a model should take. Without file locks (Windows) two builders of
#: one entry both build, and the last one's file stays.
LOCK_TIMEOUT_S = 1800.0
_log = logging.getLogger("esccs_edge.cache")


def default_folder() -> Path:
    """Return ``$ESCCS_CACHE_DIR``, or ``esccs-edge/engines`` in the user's cache folder (XDG)."""
    if chosen := os.environ.get("ESCCS_CACHE_DIR"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "esccs-edge" / "engines"
    try:
        return Path.home() / ".cache" / "esccs-edge" / "engines"
    except RuntimeError as error:
        raise ArtifactError(
            "this user has no home folder to keep compiled models in",
            hint="Set ESCCS_CACHE_DIR to a folder",
        ) from error


def key_digest(key: Key) -> str:
    """Return the name of a key's entry: SHA-256 over its canonical JSON."""
    return hashlib.sha256(_canonical(key)).hexdigest()


def seal(key: Key, content: bytes, secret: bytes) -> bytes:
    """Return the entry's bytes."""
    name = _canonical(key)
    body = b"".join((_MAGIC, _LENGTH.pack(len(name)), name, content))
    return body + hmac.digest(secret, body, "sha256")


def unseal(entry: bytes, key: Key, secret: bytes) -> bytes:
    """Return the content of an entry.

    Raises:
        ArtifactError: It was not sealed with this secret, or under another key.
    """
    body, mark = entry[:-_HMAC_BYTES], entry[-_HMAC_BYTES:]
    if not hmac.compare_digest(mark, hmac.digest(secret, body, "sha256")):
        raise ArtifactError("the entry was truncated, altered or made by someone else")
    start = len(_MAGIC) + _LENGTH.size
    if not body.startswith(_MAGIC) or len(body) < start:
        raise ArtifactError("the entry has another format")
    (length,) = _LENGTH.unpack_from(body, len(_MAGIC))
    if body[start : start + length] != _canonical(key):
        raise ArtifactError("the entry was made for another model, GPU, driver or library")
    return body[start + length :]


class SealedCache:
    """Sealed entries in one folder; safe for many threads and processes at once.

    Args:
        folder: Where to keep entries; None is `default_folder`. Made with mode 0700.
        lock_timeout_s: How long to wait for another builder of the same entry.

    Raises:
        ArtifactError: The folder exists but others could write to it.
    """

    def __init__(
        self, folder: Path | None = None, *, lock_timeout_s: float = LOCK_TIMEOUT_S
    ) -> None:
        self.folder = folder or default_folder()
        self._lock_timeout_s = lock_timeout_s
        self._warned = False
        self._usable = True
        try:
            _make_private(self.folder)
            _check_folder(self.folder)
            remove_ownerless(self.folder)
        except OSError as error:
            self._go_without(error)

    def get(self, key: Key, build: Callable[[], bytes]) -> bytes:
        """Return the content kept under a key, or build it and keep it.

        When the folder cannot be used (full, read-only), the content is built and not kept, and a
        warning is logged once.

        Raises:
            BackendError: Another builder of this entry did not finish in time.
        """
        if (content := self.load(key)) is not None:
            return content
        with self._alone(key):
            if (content := self.load(key)) is None:
                content = build()
                self._write(key, content)
            return content

    def load(self, key: Key) -> bytes | None:
        """Return the verified content, or None; a bad entry is moved aside with a warning."""
        path = self._path(key)
        if not self._usable or not os.path.lexists(path):
            return None
        try:
            return unseal(_read_own_file(path), key, self._secret())
        except ArtifactError as error:
            self.reject(key, error.message)
        except FileNotFoundError:
            pass  # another process has just moved it aside
        except OSError as error:
            self._go_without(error)
        return None

    def store(self, key: Key, content: bytes) -> None:
        """Keep content under a key; it appears complete or not at all."""
        with self._alone(key):
            self._write(key, content)

    def reject(self, key: Key, reason: str) -> None:
        """Move an entry aside as ``*.rejected``, so that the next `get` builds it again."""
        path = self._path(key)
        aside = path.with_suffix(".rejected")
        _log.warning("Cache of compiled models: %s; entry %s is moved to %s and compiled again",
                     reason, path.name, aside.name)  # fmt: skip
        try:
            os.replace(path, aside)
        except FileNotFoundError:
            pass  # another process was faster
        except OSError as error:
            self._go_without(error)

    def _path(self, key: Key) -> Path:
        return self.folder / f"{key_digest(key)}.engine"

    def _write(self, key: Key, content: bytes) -> None:
        if not self._usable:
            return
        try:
            with atomic_path(self._path(key)) as partial:
                _write_private(partial, seal(key, content, self._secret()))
        except OSError as error:
            self._go_without(error)

    @contextmanager
    def _alone(self, key: Key) -> Iterator[None]:
        """Keep other builders of this entry out, where the folder can be used at all."""
        path = self._path(key).with_suffix(".lock")
        with ExitStack() as stack:
            if self._usable:
                try:
                    held = stack.enter_context(file_lock(path, timeout_s=self._lock_timeout_s))
                except OSError as error:
                    self._go_without(error)
                else:
                    _require_lock(held, path, self._lock_timeout_s)
            yield

    def _secret(self) -> bytes:
        """Read this user's secret; make it when there is none yet or it was damaged."""
        path = self.folder / "secret.key"
        with file_lock(self.folder / "secret.lock", timeout_s=self._lock_timeout_s):
            try:
                secret = _read_own_file(path)
                if len(secret) == _SECRET_BYTES:
                    return secret
            except (FileNotFoundError, ArtifactError):
                pass
            secret = secrets.token_bytes(_SECRET_BYTES)
            with atomic_path(path) as partial:
                _write_private(partial, secret)
            return secret

    def _go_without(self, error: OSError) -> None:
        self._usable = False
        if not self._warned:
            self._warned = True
            _log.warning("Cache of compiled models %s cannot be used (%s); "
                         "models are compiled at every start",
                         self.folder, error.strerror or error)  # fmt: skip


def _canonical(key: Key) -> bytes:
    return json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, none of them for others to write."""
    if not folder.parent.exists():
        _make_private(folder.parent)
    folder.mkdir(exist_ok=True, mode=0o700)


def _check_folder(folder: Path) -> None:
    """Refuse a folder to which other users could add entries, since an entry is code."""
    if os.name != "posix":
        return
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise ArtifactError(f"cache {folder} is not a folder of its own (a link or a file)")
    if found.st_uid != os.geteuid():
        raise ArtifactError(
            f"cache {folder} belongs to user {found.st_uid}, expected {os.geteuid()}",
            hint="Set ESCCS_CACHE_DIR to a folder of your own",
        )
    if found.st_mode & 0o077:
        raise ArtifactError(
            f"cache {folder} has mode {stat.S_IMODE(found.st_mode):04o}, expected 0700",
            hint=f"Look who wrote there, then: rm -r {folder}, or chmod 700 {folder}",
        )


def _read_own_file(path: Path) -> bytes:
    if path.is_symlink():
        raise ArtifactError(f"{path.name} is a link")
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe has no end
    descriptor = os.open(path, os.O_RDONLY | flags)
    with open(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ArtifactError(f"{path.name} is not a regular file")
        if os.name == "posix" and (found.st_uid != os.geteuid() or found.st_mode & 0o077):
            raise ArtifactError(f"{path.name} is open to other users")
        return stream.read()


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(content)


def _require_lock(held: bool, path: Path, waited_s: float) -> None:
    if not held:
        raise BackendError(
            f"another process has been building this entry for {waited_s:.0f} s",
            hint=f"Wait for it, or end the process that holds {path}",
        )
