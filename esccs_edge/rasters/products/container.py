"""A folder or a zip archive as a set of files by name, without unpacking.

GDAL reads members of an archive in place. What is opened is a regular file, or a member of a
regular file.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from ...contracts.types import PathLike
from ...errors import RasterError
from ..raster_file import other_format

#: Most bytes of one metadata file; real ones have a few MB.
MAX_METADATA_BYTES = 64 << 20
#: Most files of a product; real ones have a few hundred.
MAX_FILES = 100_000

_SIGNATURES = (
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
    (b"II*\x00", "GTiff"),
    (b"MM\x00*", "GTiff"),
    (b"II+\x00", "GTiff"),
    (b"MM\x00+", "GTiff"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
)


#: What files and archives raise; RuntimeError is a password, NotImplementedError a compression.
_DAMAGE = (zipfile.BadZipFile, OSError, EOFError, KeyError, RuntimeError, NotImplementedError)


class Container:
    """The files of a product, by path from its folder, with ``/``.

    Args:
        path: Folder or zip archive.

    Raises:
        RasterError: Neither of both, damaged, or of too many files.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(os.path.abspath(path))
        self._archive = None if self.path.is_dir() else self.path
        self.names: tuple[str, ...] = tuple(sorted(self._listed()))

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises:
            RasterError: It cannot be read, or is too large for metadata.
        """
        with self._errors(name):
            if self._archive is None:
                file = self.path / name
                self._require_small(name, file.stat().st_size)
                return file.read_bytes()
            with zipfile.ZipFile(self._archive) as archive:
                self._require_small(name, archive.getinfo(name).file_size)
                return archive.read(name)

    def gdal_name(self, name: str) -> str:
        """Return what GDAL opens to read a file."""
        if self._archive is None:
            return str(self.path / name)
        return f"/vsizip/{{{self._archive}}}/{name}"

    def driver(self, name: str) -> str:
        """Return the one driver that may open a raster, by the first bytes of the file.

        Raises:
            RasterError: No JPEG 2000, TIFF or PNG.
        """
        with self._errors(name):
            if self._archive is None:
                with open(self.path / name, "rb") as stream:
                    head = stream.read(12)
            else:
                with zipfile.ZipFile(self._archive) as archive, archive.open(name) as member:
                    head = member.read(12)
        return driver_of(head, f"{self.path}/{name}")

    def _listed(self) -> list[str]:
        with self._errors(""):
            if self._archive is None:
                return self._files_of_folder()
            with zipfile.ZipFile(self._archive) as archive:
                listed = [member for member in archive.infolist() if not member.is_dir()]
        self._require_few(len(listed))
        names = [member.filename for member in listed]
        names = [name for name in names if not _is_of_finder(name)]
        if unsafe := [name for name in names if ".." in name.split("/") or name.startswith("/")]:
            raise RasterError(f"{self.path} has a member {unsafe[0]!r}, expected paths inside it")
        return names

    def _files_of_folder(self) -> list[str]:
        names: list[str] = []
        for folder, _, files in os.walk(self.path):
            here = Path(folder).relative_to(self.path)
            names += [(here / file).as_posix() for file in files if (Path(folder) / file).is_file()]
            self._require_few(len(names))
        return [name for name in names if not _is_of_finder(name)]

    def _require_few(self, count: int) -> None:
        if count > MAX_FILES:
            raise RasterError(
                f"{self.path} has more than {MAX_FILES} files, expected one product",
                hint="Give the folder of the product itself",
            )

    def _require_small(self, name: str, size: int) -> None:
        if size > MAX_METADATA_BYTES:
            raise RasterError(
                f"{self.path}/{name} has {size / 1e6:.0f} MB, expected metadata of at most "
                f"{MAX_METADATA_BYTES / 1e6:.0f} MB"
            )

    def _errors(self, name: str) -> _ReadErrors:
        return _ReadErrors(f"{self.path}/{name}" if name else str(self.path))


def _is_of_finder(name: str) -> bool:
    """Return whether macOS put a file beside the one of that name, as it does in archives too."""
    parts = name.split("/")
    return parts[0] == "__MACOSX" or parts[-1].startswith("._")


class _ReadErrors:
    """Turns what files and archives raise into a `RasterError`."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _DAMAGE):
            raise RasterError(
                f"cannot read {self._what}: {getattr(error, 'strerror', None) or error}",
                hint="Expected a product folder or an undamaged zip archive without a password",
            ) from error


def driver_of(head: bytes, name: str) -> str:
    """Return the GDAL driver for a file that begins with these bytes.

    Raises:
        RasterError: No JPEG 2000, TIFF or PNG.
    """
    for signature, driver in _SIGNATURES:
        if head.startswith(signature):
            return driver
    if other := other_format(head):
        raise RasterError(
            f"cannot read {name}: it is {other[0]}, expected JPEG 2000, GeoTIFF or PNG",
            hint=other[1],
        )
    raise RasterError(
        f"{name} is not a raster, expected JPEG 2000, GeoTIFF or PNG",
        hint="Was the download complete?",
    )
