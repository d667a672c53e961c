"""Simplify an ONNX graph with onnxsim, at arm's length, and keep the result only if it is the same.

A simplifier is compiled code that has crashed and changed results before, so it runs in a process
of its own with a time limit, and both graphs answer the same tensors before one is chosen.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

#: Seconds; a student takes well under one.
SIMPLIFY_TIMEOUT_S = 120.0
#: Two float32 graphs of one model differ by summation order only; logits are of order 10.
SAME_GRAPH_ATOL = 1e-4

_PROGRAM = """
import sys, onnx, onnxsim
model, same = onnxsim.simplify(onnx.load(sys.argv[1]))
onnx.save(model, sys.argv[2])
sys.exit(0 if same else 3)
"""


def simplified(plain: bytes, inputs: Mapping[str, npt.NDArray[np.float32]]) -> tuple[bytes, str]:
    """Return the simplified model and what made it, or the plain one and why.

    Args:
        plain: Serialized ONNX model.
        inputs: Tensors by input name on which both graphs must agree within `SAME_GRAPH_ATOL`.

    Returns:
        The model to keep, and ``"onnxsim VERSION"`` or ``"none: REASON"``.
    """
    try:
        version = metadata.version("onnxsim")
    except metadata.PackageNotFoundError:
        return plain, "none: onnxsim is not installed"
    candidate, problem = _run_simplifier(plain)
    if candidate is None:
        return plain, f"none: onnxsim {version} {problem}"
    difference = _worst_difference(plain, candidate, inputs)
    if not difference <= SAME_GRAPH_ATOL:
        return plain, f"none: onnxsim {version} changed an output by {difference:.3g}"
    return candidate, f"onnxsim {version}"


def _run_simplifier(plain: bytes) -> tuple[bytes | None, str]:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "plain.onnx"), Path(folder, "simplified.onnx")
        source.write_bytes(plain)
        command = [sys.executable, "-c", _PROGRAM, str(source), str(target)]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, timeout=SIMPLIFY_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return None, f"took longer than {SIMPLIFY_TIMEOUT_S:g} s"
        if done.returncode:
            return None, f"ended with code {done.returncode}"
        return target.read_bytes(), ""


def _worst_difference(
    plain: bytes, candidate: bytes, inputs: Mapping[str, npt.NDArray[np.float32]]
) -> float:
    """Return the largest absolute difference of any output; infinite if the second does not run."""
    expected = _outputs(plain, inputs)
    try:
        found = _outputs(candidate, inputs)
    except Exception:  # onnxruntime raises types of its own; whichever it is, the graph is unusable
        return float("inf")
    return max(float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True))


def _outputs(
    model: bytes, inputs: Mapping[str, npt.NDArray[np.float32]]
) -> list[npt.NDArray[np.float32]]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, dict(inputs))]
