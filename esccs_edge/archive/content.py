"""What a result was made from, as hashes: the rasters, the model and the options.

Times and names of files play no part, so an archive may be copied or moved and its results still
count. Files that GDAL reads beside a raster (``.aux.xml``, ``.msk``, ``.tfw``) are not hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Raised when the same content would give other results or another record.
FORMAT = 1
_BYTES_AT_ONCE = 1 << 20


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file of any size, as hexadecimal digits.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BYTES_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def content_sha256(**parts: str | float | None | Mapping[str, Any]) -> str:
    """Return one hash over all that decides a result; the order of the parts is irrelevant."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
