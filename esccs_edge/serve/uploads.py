"""Uploaded files: kept in a temporary folder, told by their first bytes, read like any other."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from ..contracts.manifest import Manifest
from ..contracts.types import Array
from ..errors import EsccsError, InputError
from ..rasters.reader import read_sample

#: First bytes -> what the name must end in for the readers.
_KINDS = {
    b"\x93NUMPY": ".npy",
    b"II*\x00": ".tif",
    b"MM\x00*": ".tif",
    b"II+\x00": ".tif",
    b"MM\x00+": ".tif",
    b"\x89PNG": ".png",
}


def store(files: Mapping[str, BinaryIO | None], folder: Path) -> dict[str, Path | None]:
    """Copy uploaded files into a folder, under the names of their modalities.

    Args:
        files: Modality name -> file, or None where it is absent.
        folder: Of this request.

    Raises:
        InputError: No file, or one that is of no known kind.
    """
    if all(file is None for file in files.values()):
        raise InputError(
            f"no file is given, expected at least one of {', '.join(files)}",
            hint="Send multipart/form-data with these names",
        )
    return {
        name: None if file is None else _stored(name, file, folder) for name, file in files.items()
    }


def read_stored(paths: Mapping[str, Path | None], manifest: Manifest) -> dict[str, Array | None]:
    """Read stored patches; see `read_sample`."""
    return read_sample(paths, manifest.modalities, manifest.sample.pixel_size_m)


def without_folder(error: EsccsError, folder: Path) -> EsccsError:
    """Take the service's own folder out of a message: the client has not seen it."""
    error.message = error.message.replace(f"{folder}/", "")
    error.hint = error.hint.replace(f"{folder}/", "")
    return error


def _stored(name: str, file: BinaryIO, folder: Path) -> Path:
    file.seek(0)
    start = file.read(8)
    for sign, ending in _KINDS.items():
        if start.startswith(sign):
            path = folder / f"{name}{ending}"
            file.seek(0)
            with path.open("xb") as target:
                shutil.copyfileobj(file, target)
            return path
    raise InputError(
        f"{name} begins with {start!r}, expected a GeoTIFF, PNG or .npy file",
        hint="Send the file itself, not a path or an archive",
    )
