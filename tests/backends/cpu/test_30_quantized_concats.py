"""An INT8 tensor that is made by concatenation keeps its scale, and its reader stays INT8."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from esccs_edge.backends.cpu.openvino import ov
from esccs_edge.backends.cpu.quantized_concats import keep_scales_of_concats

onnxruntime = pytest.importorskip("onnxruntime", reason="what OpenVINO is compared with")

SCALE = 0.03
SHAPE = (2, 4, 8, 8)
#: One step of the quantized values through the largest weight.
ATOL = 1.5 * SCALE * 30 * 0.01


def graph(between: str) -> bytes:
    """Two branches -> concatenation, perhaps an activation -> Q/DQ -> convolution."""
    rng = np.random.default_rng(0)
    constants = {
        "left": rng.normal(0, 0.5, (4, 4, 3, 3)).astype(np.float32),
        "right": rng.normal(0, 0.5, (4, 4, 3, 3)).astype(np.float32),
        "scale": np.array(SCALE, np.float32),
        "zero": np.array(0, np.int8),
        # Small weights, so that sums of 16 bits hold them on any CPU.
        "weight": rng.integers(-30, 31, (8, 8, 1, 1)).astype(np.int8),
        "scales": np.full(8, 0.01, np.float32),
        "zeros": np.zeros(8, np.int8),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "left"], ["a"], pads=[1, 1, 1, 1]),
        node("Conv", ["x", "right"], ["b"], pads=[1, 1, 1, 1]),
        node("Concat", ["a", "b"], ["both"], axis=1) if between != "Add"
        else node("Add", ["a", "b"], ["both"]),
        node("Relu" if between == "Relu" else "Identity", ["both"], ["c"]),
        node("QuantizeLinear", ["c", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        node("DequantizeLinear", ["weight", "scales", "zeros"], ["w"], axis=0),
        node("Conv", ["d", "w"], ["y"], name="reader"),
    ]  # fmt: skip
    if between == "Add":
        constants["weight"] = constants["weight"][:, :4].copy()
    made = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 8, 8, 8))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.mark.parametrize("between", ["Identity", "Relu"])
def test_a_quantized_concatenation_answers_like_onnx_runtime_and_stays_int8(between):
    content = graph(between)
    x = np.random.default_rng(1).normal(0, 0.5, SHAPE).astype(np.float32)
    wanted = onnxruntime.InferenceSession(content).run(None, {"x": x})[0]
    core = ov.Core()
    model = core.read_model(content)
    keep_scales_of_concats(model)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled({"x": x})["y"], wanted, atol=ATOL)
    assert np.abs(wanted).max() > 20 * ATOL
    kinds = [
        node.get_rt_info()["primitiveType"].astype(str)
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    assert sum(kind.lower().endswith("i8") for kind in kinds) == 1


def test_other_quantized_tensors_are_left_as_they_are():
    model = ov.Core().read_model(graph("Add"))
    before = [node.get_friendly_name() for node in model.get_ordered_ops()]
    keep_scales_of_concats(model)
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == before
