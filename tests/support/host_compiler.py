"""The C++ beside the tests, compiled by g++ together with the sources of the kernels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def compiled(program: str, target: Path, *options: str) -> Path:
    """Compile a program of this folder; skips where g++ or the sources are missing."""
    compiler, source = shutil.which("g++"), ROOT / "esccs_edge" / "native"
    if compiler is None or not source.is_dir():
        pytest.skip("needs g++ and the source tree to compile the kernels for the CPU")
    here = Path(__file__).parent
    always = ["-std=c++17", "-O1", "-ffp-contract=off", f"-I{source}", f"-I{here}"]
    done = subprocess.run(
        [compiler, *always, here / program, "-o", target, *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target
