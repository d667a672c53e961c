"""A model bundle: one folder with a manifest and the files it vouches for.

Training creates it, export and calibration add files, the runtime opens it. Every file is read
through its recorded SHA-256, so a changed file is refused before any parser sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArtifactError, ManifestError
from ..system.atomic import write_atomic
from .bundle_files import MANIFEST, MLM
from .manifest import FileRecord, Manifest
from .stac_mlm import mlm_item
from .types import PathLike

DEFAULT_FOLDER = Path(__file__).parents[1] / "models" / "default"


@dataclass(frozen=True)
class Bundle:
    """A bundle folder and its checked manifest."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, where: PathLike | None = None) -> Bundle:
        """Open a bundle folder; None or ``"default"`` is the one that ships with the package.

        Raises:
            ArtifactError: There is no such folder.
            ManifestError: Its manifest is missing or breaks the contract.
        """
        folder = DEFAULT_FOLDER if where is None or str(where) == "default" else Path(where)
        if not folder.is_dir():
            raise ArtifactError(
                f"no bundle folder at {folder}",
                hint="Give the folder that `esccs-edge train` wrote, or 'default'",
            )
        try:
            text = (folder / MANIFEST).read_bytes()
        except OSError as error:
            raise ManifestError(f"cannot read {folder / MANIFEST}: {error.strerror}") from None
        return cls(folder, Manifest.from_json(text))

    @classmethod
    def create(cls, folder: PathLike, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
        """Write a new bundle; the manifest comes last, so a half-written folder is not a bundle."""
        return cls(Path(folder), manifest.evolve(files={})).add(files)

    def read(self, name: str) -> bytes:
        """Return a file's content after checking its digest.

        Raises:
            ArtifactError: Not listed in the manifest, outside the folder, missing or altered.
        """
        record = self._record(name)
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            raise ArtifactError(f"bundle file {path} is missing or not a regular file")
        if (size := path.stat().st_size) != record.bytes:
            raise ArtifactError(f"bundle file {path} has {size} bytes, expected {record.bytes}")
        content = path.read_bytes()
        if (digest := hashlib.sha256(content).hexdigest()) != record.sha256:
            raise ArtifactError(
                f"bundle file {path} has sha256 {digest[:12]}..., expected {record.sha256[:12]}...",
                hint="The file was changed after it was written; export or copy the bundle again",
            )
        return content

    def add(self, files: Mapping[str, bytes], **manifest_changes: Any) -> Bundle:
        """Write files and manifest changes; returns the extended bundle.

        Each file appears complete or not at all, and the manifest that vouches for them is
        replaced last. A file of the same name is replaced.
        """
        records = dict(self.manifest.files)
        for name, content in files.items():
            _check_name(name)
            write_atomic(self.folder / name, content)
            records[name] = FileRecord(hashlib.sha256(content).hexdigest(), len(content))
        manifest = self.manifest.evolve(files=records, **manifest_changes)
        write_atomic(self.folder / MLM, mlm_item(manifest))
        write_atomic(self.folder / MANIFEST, manifest.to_json())
        return Bundle(self.folder, manifest)

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
        """SHA-256 over the manifest, which itself covers every file."""
        return hashlib.sha256(self.manifest.to_json().encode()).hexdigest()

    def _record(self, name: str) -> FileRecord:
        _check_name(name)
        try:
            return self.manifest.files[name]
        except KeyError:
            raise ArtifactError(
                f"bundle {self.folder} has no file {name!r}, it lists {sorted(self.manifest.files)}"
            ) from None


def _check_name(name: str) -> None:
    reserved = ("", "..", MANIFEST, MLM)
    if Path(name).name != name or name in reserved or "\0" in name:
        raise ArtifactError(f"bundle file name is {name!r}, expected a plain file name")
