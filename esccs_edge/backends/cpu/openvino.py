"""OpenVINO, imported without its telemetry.

``import openvino`` reports to its makers over the network, from a thread that forks. A ground
station asked for neither: traffic of its own accord, and a child that may hang with the pipes of
its parent open. OpenVINO does without where the package that reports cannot be imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Make a package look as if it were not installed, unless it is loaded already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


with _without("openvino_telemetry"):
    import openvino as ov
    from openvino import opset13 as ops

__all__ = ["ops", "ov"]
