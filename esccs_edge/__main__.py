"""``python -m esccs_edge`` is the command ``esccs-edge``."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main(prog_name="esccs-edge")
