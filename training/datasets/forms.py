"""What to do about a data set that is named in no known form."""

from __future__ import annotations

from pathlib import Path


def form_hint(where: str | Path) -> str:
    """Return the hint for ``where``, which is neither ``KIND:PATH`` nor the path of an index."""
    if (Path(where) / "index.csv").is_file():
        return f"Give {Path(where) / 'index.csv'}"
    if Path(where).is_dir():
        return f"Say what the folder holds (KIND:{where}), or give the path of an index.csv"
    return "Check the spelling"
