"""What PyInstaller has to know, found by it through the entry point ``pyinstaller40``.

``pyinstaller program.py`` then yields a folder that runs with the default bundle, the example pair
and the CPU backend; other backends come along where they are installed.
"""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """Return the folder of the hook."""
    return [str(Path(__file__).parent)]
