"""Normalizations over any number of elements answer where OpenVINO is held to AVX2.

In processes of their own: what this guards against ends the process.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

#: Compiles the graphs of standard input as the backend does, and prints what each answers.
RUN = """
import base64, json, sys
import numpy as np
from esccs_edge.backends.cpu.normalizations import spell_out_normalizations
from esccs_edge.backends.cpu.openvino import ov
core = ov.Core()
for content, shape in json.load(sys.stdin):
    model = core.read_model(base64.b64decode(content), b"")
    spell_out_normalizations(model)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    pixels = np.random.default_rng(0).normal(3, 2, shape).astype(np.float32)
    print(json.dumps(compiled([pixels])[0].tolist()), flush=True)
"""
EPSILON = 1e-5
node = helper.make_node


def graph(kind: str, width: int) -> tuple[bytes, tuple[int, ...]]:
    shape = (2, width, 3, 3) if kind == "instance" else (2, 5, width)
    constants = {
        "scale": np.ones(width, np.float32),
        "shift": np.zeros(width, np.float32),
        "epsilon": np.array(EPSILON, np.float32),
        "last": np.array([-1], np.int64),
    }
    nodes = {
        "layer": [node("LayerNormalization", ["x", "scale", "shift"], ["y"], epsilon=EPSILON)],
        "instance": [node("InstanceNormalization", ["x", "scale", "shift"], ["y"],
                          epsilon=EPSILON)],
        "in parts": [
            node("ReduceMean", ["x", "last"], ["mean"]), node("Sub", ["x", "mean"], ["d"]),
            node("Mul", ["d", "d"], ["dd"]), node("ReduceMean", ["dd", "last"], ["variance"]),
            node("Add", ["variance", "epsilon"], ["v"]), node("Sqrt", ["v"], ["deviation"]),
            node("Div", ["d", "deviation"], ["y"]),
        ],
    }[kind]  # fmt: skip
    used = {name for one in nodes for name in one.input}
    made = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(v, name) for name, v in constants.items() if name in used],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(), shape


def normalized(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    pixels = np.random.default_rng(0).normal(3, 2, shape).astype(np.float32).astype(np.float64)
    axes = (2, 3) if kind == "instance" else -1
    centered = pixels - pixels.mean(axes, keepdims=True)
    return centered / np.sqrt((centered**2).mean(axes, keepdims=True) + EPSILON)


@pytest.mark.parametrize("limit", ["AVX2", "ALL"])
def test_any_width_is_normalized_under_any_instruction_set(limit):
    cases = [(kind, width) for kind in ("layer", "instance", "in parts") for width in (6, 16, 20)]
    graphs = [graph(*case) for case in cases]
    given = json.dumps([(base64.b64encode(content).decode(), shape) for content, shape in graphs])
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=given, capture_output=True, text=True, timeout=250,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": limit},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [np.array(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases)
    for (kind, _), (_, shape), answer in zip(cases, graphs, answers, strict=True):
        np.testing.assert_allclose(answer, normalized(kind, shape), atol=2e-5)
