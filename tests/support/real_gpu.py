"""Which engine runs on a real GPU: TensorRT, TensorRT for RTX, or torch in their place.

``ESCCS_GPU_ENGINE`` names the only one to try. Without OpenVINO: `onnx_answer` says what is right.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from esccs_edge.backends.trt import backend as trt_backend
from esccs_edge.backends.trt.library import load_flavor
from esccs_edge.cuda.device import Device
from esccs_edge.cuda.probe import probe_driver
from esccs_edge.errors import MissingDependencyError

STAND_IN = "stand-in"
ENGINES = ("tensorrt", "rtx", STAND_IN)
CHOSEN = os.environ.get("ESCCS_GPU_ENGINE", "")
needs_gpu = pytest.mark.skipif(
    bool(probe_driver().problem), reason=f"no GPU: {probe_driver().problem}"
)


@contextmanager
def running(engine: str) -> Iterator[None]:
    """Let each `TrtBackend` that is opened meanwhile run this one of `ENGINES`.

    Raises:
        MissingDependencyError: It, or torch for the stand-in, is not installed.
    """
    if engine == STAND_IN:
        try:
            from support.torch_engine import standing_in
        except ImportError as error:
            raise MissingDependencyError(f"the stand-in needs torch and onnx: {error}") from error
        with standing_in():
            yield
        return
    flavor = load_flavor(engine)
    with patch.object(trt_backend, "pick_flavor", lambda: flavor):
        yield


@contextmanager
def zero_copy() -> Iterator[None]:
    """Let every lane that is opened meanwhile work as on a GPU that shares the host's memory."""
    with patch.object(Device, "integrated", True):
        yield


@contextmanager
def running_or_skipped(engine: str) -> Iterator[None]:
    """The same in a test."""
    if CHOSEN not in ("", engine):
        pytest.skip(f"ESCCS_GPU_ENGINE is {CHOSEN}")
    try:
        load_flavor(engine) if engine != STAND_IN else pytest.importorskip("torch")
    except MissingDependencyError as error:
        pytest.skip(error.message)
    with running(engine):
        yield
