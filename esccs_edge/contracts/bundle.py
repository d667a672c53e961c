"""A model bundle: one folder with a manifest and the files it vouches for.

Training creates it, export and calibration add files, the runtime opens it. Every file is read
through its recorded SHA-256, so a changed file is refused before any parser sees it. The manifest
itself is held against a digest that the caller supplies, or else against who could have written it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ArtifactError, InputError, ManifestError
from ..system.regular_file import read_regular
from ..system.writers import others_who_write
from .arguments import require_path
from .bundle_files import MANIFEST, MLM, STUDENT_WEIGHTS
from .bundle_update import places_of, replace_files, settle, standing_text, update_lock
from .manifest import FileRecord, Manifest
from .stac_mlm import mlm_item
from .types import PathLike

#: Where the bundles lie that ship with the package.
MODELS = Path(__file__).parents[1] / "models"
#: Their names, which any place takes that takes a bundle folder.
SHIPPED = ("default", "land-cover", "crop-series")
_NOT_PACKAGED = (
    "The files of the package are incomplete: install it again. A frozen program has to carry "
    "them: PyInstaller does by itself where the package is installed; tell another tool to add the "
    "data files of esccs_edge"
)

_log = logging.getLogger("esccs_edge.bundle")


@dataclass(frozen=True)
class Bundle:
    """A bundle folder and its checked manifest.

    Attributes:
        folder: Where it lies.
        manifest: Its contract.
        text: The manifest as it was read; empty where it was not.
    """

    folder: Path
    manifest: Manifest
    text: bytes = field(default=b"", compare=False)

    def __repr__(self) -> str:
        manifest = self.manifest
        what = f"{manifest.task} of {len(manifest.classes)} classes"
        return f"<Bundle {manifest.name}, {what}, in {self.folder}>"

    @classmethod
    def open(cls, where: PathLike | None = None, *, digest: str | None = None) -> Bundle:
        """Open a bundle folder, or one that ships with the package.

        Args:
            where: The folder, or a name in `SHIPPED`; None is ``"default"``.
            digest: SHA-256 that its ``manifest.json`` must have, in hexadecimal, kept where whoever
                writes the folder cannot write. Without it, the folder must not be writable for
                others than its owner.

        Raises:
            ArtifactError: There is no such folder, the digest is another, or others could have
                written the manifest.
            ManifestError: Its manifest is missing or breaks the contract.
            InputError: ``digest`` is none.
        """
        if where is not None:
            require_path("bundle", where)
        name = "default" if where is None else str(where)
        is_shipped = name in SHIPPED
        folder = MODELS / name if is_shipped else Path(name)
        if not folder.is_dir():
            raise ArtifactError(
                f"no bundle folder at {folder}",
                hint=_NOT_PACKAGED
                if is_shipped
                else "Give the folder that `esccs-edge train` wrote, or one of "
                + ", ".join(SHIPPED),
            )
        text = standing_text(folder)
        if text is None:
            inside = next((path.parent for path in sorted(folder.glob(f"*/{MANIFEST}"))), None)
            raise ManifestError(
                f"cannot read {folder / MANIFEST}: No such file or directory",
                hint=f"Did you mean {inside}?"
                if inside
                else "Give the bundle's own folder; that of a training run is RUN/bundle",
            )
        if digest is not None:
            _require_digest(hashlib.sha256(text).hexdigest(), digest, folder)
        elif not is_shipped:  # whoever writes to the package itself needs no bundle
            _require_own(folder)
        opened = cls(folder, Manifest.from_json(text), text)
        settle(folder, text, opened.manifest)
        return opened

    @classmethod
    def opened(cls, bundle: Bundle | PathLike | None, digest: str | None) -> Bundle:
        """Return a bundle that is open already, or open it; either must have the digest, if any."""
        if not isinstance(bundle, Bundle):
            return cls.open(bundle, digest=digest)
        if digest is not None:
            _require_digest(bundle.digest, digest, bundle.folder)
        return bundle

    @classmethod
    def create(cls, folder: PathLike, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
        """Write a new bundle; the manifest comes last, so a half-written folder is not a bundle.

        A bundle that stands there already is replaced as a whole.
        """
        where, own = Path(folder), {name: files[name] for name in files if name != MLM}
        with update_lock(where):
            return _written(where, _standing(where), manifest.evolve(files={}), own)

    def read(self, name: str) -> bytes:
        """Return a file's content after checking its digest.

        Raises:
            ArtifactError: Not listed in the manifest, outside the folder, missing or altered.
        """
        record = self._record(name)
        under_its_name, waiting = places_of(self.folder, name, record)
        refusals: list[ArtifactError] = []
        for path in (under_its_name, waiting, under_its_name):  # it may take its name meanwhile
            try:
                return _verified(path, record)
            except ArtifactError as error:
                refusals.append(error)
        self._require_current()
        raise refusals[0]

    def add(
        self, files: Mapping[str, bytes], *, without: Collection[str] = (), **manifest_changes: Any
    ) -> Bundle:
        """Write files and manifest changes; returns the extended bundle.

        All of it is there afterwards, or nothing: a process that dies meanwhile leaves the bundle
        as it was, or as it was to be. A file of the same name is replaced.

        Args:
            files: Name -> content.
            without: Files that the bundle shall no longer hold.
            manifest_changes: Fields of the manifest.

        Raises:
            ArtifactError: A name is not a plain file name, or the bundle on disk is no longer the
                one that was opened.
        """
        with update_lock(self.folder):
            self._require_current()
            manifest = self.manifest.evolve(**manifest_changes)
            return _written(self.folder, self.manifest, manifest, files, without)

    def require_own(self) -> None:
        """Refuse to change the bundle in the package, which all its users share.

        Raises:
            ArtifactError: It is one of these.
        """
        if self.folder.resolve().parent == MODELS.resolve():
            raise ArtifactError(
                "the bundle in the package is shared by all who use it and is not changed, "
                "expected one of your own",
                hint='Copy it first: python -c "import esccs_edge; '
                "esccs_edge.Bundle.open().copy('model')\"; then give the folder 'model'",
            )

    def copy(self, folder: PathLike, *, without: Collection[str] = ()) -> Bundle:
        """Write the bundle to another folder, leaving out files that are not needed there.

        Args:
            folder: Where to; files of the same name are replaced.
            without: Names to leave out, such as the weights for training on a device.

        Raises:
            ArtifactError: A file is missing or altered, or the model itself would be left out.
        """
        names = [name for name in self.manifest.files if name not in without]
        if self.manifest.model not in names:
            raise ArtifactError(f"a copy without {self.manifest.model} would have no model to run")
        return Bundle.create(folder, self.manifest, {name: self.read(name) for name in names})

    def verify(self) -> list[str]:
        """Check every listed file; returns their names.

        Raises:
            ArtifactError: The first file that fails.
        """
        for name in self.manifest.files:
            self.read(name)
        return sorted(self.manifest.files)

    @property
    def identity(self) -> dict[str, str]:
        """Return ``name``, ``digest`` and ``folder``."""
        return {
            "name": self.manifest.name,
            "digest": self.digest,
            "folder": str(self.folder.resolve()),
        }

    @property
    def digest(self) -> str:
        """SHA-256 of ``manifest.json``, byte by byte, which itself covers every other file."""
        return hashlib.sha256(self.text or self.manifest.to_json().encode()).hexdigest()

    def _require_current(self) -> None:
        text = standing_text(self.folder)
        if text is not None and text != self.text and Manifest.from_json(text) != self.manifest:
            raise ArtifactError(
                f"bundle {self.folder} was changed by another process since it was opened",
                hint="Open it again",
            )

    def _record(self, name: str) -> FileRecord:
        _check_name(name)
        try:
            return self.manifest.files[name]
        except KeyError:
            listed = ", ".join(sorted(self.manifest.files))
            raise ArtifactError(
                f"bundle {self.folder} has no file {name!r}, it lists {listed}",
                hint="Weights stay in the bundle that `esccs-edge train` wrote; one that ships "
                "holds the exported networks alone"
                if name == STUDENT_WEIGHTS
                else "",
            ) from None


def _written(
    folder: Path,
    before: Manifest | None,
    manifest: Manifest,
    files: Mapping[str, bytes],
    without: Collection[str] = (),
) -> Bundle:
    for name in files:
        _check_name(name)
    if MLM in files:
        raise ArtifactError(f"{MLM} is written by the bundle itself, expected another name")
    kept = {name: record for name, record in manifest.files.items() if name not in without}
    new = {name: _record_of(content) for name, content in files.items()}
    listed = {name: record for name, record in {**kept, **new}.items() if name != MLM}
    item = mlm_item(manifest.evolve(files=listed)).encode()
    after = manifest.evolve(files={**listed, MLM: _record_of(item)})
    replace_files(folder, before, after, {**files, MLM: item}, set(without) - set(new))
    return Bundle(folder, after, after.to_json().encode())


def _record_of(content: bytes) -> FileRecord:
    return FileRecord(hashlib.sha256(content).hexdigest(), len(content))


def _standing(folder: Path) -> Manifest | None:
    """Return the manifest of the bundle that is about to be replaced, if it is one."""
    try:
        text = standing_text(folder)
        return None if text is None else Manifest.from_json(text)
    except ManifestError:
        return None


def _verified(path: Path, record: FileRecord) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise ArtifactError(f"bundle file {path} is missing or not a regular file")
    try:
        if (size := path.stat().st_size) != record.bytes:
            raise ArtifactError(f"bundle file {path} has {size} bytes, expected {record.bytes}")
        content = read_regular(path, record.bytes, links=False)
    except OSError as error:
        raise ArtifactError(f"cannot read bundle file {path}: {error.strerror}") from error
    if (digest := hashlib.sha256(content).hexdigest()) != record.sha256:
        raise ArtifactError(
            f"bundle file {path} has sha256 {digest[:12]}..., expected {record.sha256[:12]}...",
            hint="The file was changed after it was written; export or copy the bundle again",
        )
    return content


def _require_digest(found: str, digest: str, folder: Path) -> None:
    if not (isinstance(digest, str) and re.fullmatch(r"[0-9a-fA-F]{64}", digest)):
        raise InputError(
            f"digest is {digest!r}, expected the 64 hexadecimal digits of a SHA-256",
            hint="`esccs-edge verify BUNDLE` prints it",
        )
    if found != digest.lower():
        raise ArtifactError(
            f"{folder / MANIFEST} has sha256 {found}, expected {digest.lower()}",
            hint="This is another bundle than the one that was approved, or it was changed",
        )


def _require_own(folder: Path) -> None:
    for path in (folder, folder / MANIFEST):
        if others := others_who_write(path):
            raise ArtifactError(
                f"{path} can be written by {others}, expected by its owner only",
                hint=f"Look who wrote there, then: chmod go-w {path}; or give the bundle's digest",
            )
    if os.name == "posix" and folder.stat().st_uid not in (os.geteuid(), 0):
        _log.warning("Bundle %s belongs to user %d, who can change it; give its digest to be sure",
                     folder, folder.stat().st_uid)  # fmt: skip


def _check_name(name: str) -> None:
    is_plain = Path(name).name == name and "\0" not in name and not name.startswith(".")
    if not is_plain or name in ("", MANIFEST):
        raise ArtifactError(f"bundle file name is {name!r}, expected a plain file name")
