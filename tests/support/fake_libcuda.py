"""A libcuda.so.1 without a GPU (`fake_libcuda.cpp`), for processes that start under it."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from esccs_edge.cuda.probe import probe_driver
from support.host_compiler import compiled

PACKAGES = {"cuda-python": "cuda.bindings", "pycuda": "pycuda"}


def environment(folder: Path, provider: str, *, idle: bool = False) -> dict[str, str]:
    """Build the library and return the environment in which a process uses it.

    Skips where there is a real driver, no compiler, or no such CUDA binding. An ``idle`` library
    copies and computes nothing.
    """
    if not probe_driver().problem:
        pytest.skip("this host has the real driver")
    if sys.platform != "linux":
        pytest.skip("replaces libcuda.so.1")
    if not _is_installed(PACKAGES[provider]):
        pytest.skip(f"{provider} is not installed")
    options = ["-shared", "-fPIC", "-ldl", *["-DIDLE"] * idle]
    target = compiled("fake_libcuda.cpp", folder / "libcuda.so.1", *options)
    (folder / "libcuda.so").symlink_to(target)
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "ESCCS_CUDA": provider}


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
