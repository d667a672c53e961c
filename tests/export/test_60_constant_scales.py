"""Resizing by sizes from shapes becomes resizing by constants, with the same result."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from esccs_edge.export.constant_scales import with_constant_scales


def resizing(height, mode):
    """Double a ``(N, 2, height, 6)`` image to a size that is worked out from its shape."""
    constants = {
        "twice": np.array([2, 2], np.int64), "from": np.array([2], np.int64),
        "to": np.array([4], np.int64), "two": np.array([2], np.int64),
        "zero": np.array([0], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "from", "to"], ["image"]),
        helper.make_node("Mul", ["image", "twice"], ["doubled"]),
        helper.make_node("Slice", ["shape", "zero", "two"], ["batch"]),
        helper.make_node("Concat", ["batch", "doubled"], ["sizes"], axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode=mode),
    ]
    graph = helper.make_graph(
        nodes, "resizing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, height, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, None, 12])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model, x):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_known_image_size_needs_no_shapes(mode, count):
    model = resizing(5, mode)
    found = with_constant_scales(model)
    onnx.checker.check_model(found, full_check=True)
    assert [node.op_type for node in found.graph.node] == ["Resize"]
    (scales,) = found.graph.initializer
    assert numpy_helper.to_array(scales).tolist() == [1, 1, 2, 2]
    x = np.random.default_rng(0).normal(size=(count, 2, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(found, x), run(model, x))


def test_an_image_size_that_is_open_is_left_alone():
    model = resizing("H", "nearest")
    assert [n.op_type for n in with_constant_scales(model).graph.node] == [
        n.op_type for n in model.graph.node
    ]
