"""Float32 ONNX -> float16 convolutions, on graphs made by hand (`test_60_to_engine`: a student)."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.tiny import tiny_manifest, tiny_onnx
from support.toy_task import toy_manifest, toy_onnx, toy_pixels

from esccs_edge.errors import ArtifactError
from esccs_edge.export.to_fp16 import float16_model

#: Values of a few units in float16, through at most five convolutions of half an ulp each.
FLOAT16_ATOL = 0.05


def test_float16_keeps_the_head_of_a_map_float32(tmp_path):
    """The toy's second convolution makes the scores; only the first becomes float16."""
    ort = pytest.importorskip("onnxruntime")
    manifest = toy_manifest()
    content = toy_onnx(manifest)
    halved = float16_model(content, manifest.outputs)
    stored = {t.name: t.data_type for t in onnx.load_from_string(halved).graph.initializer}
    assert stored["smooth_float16"] == TensorProto.FLOAT16 and stored["mix"] == TensorProto.FLOAT
    feed = {"radar": toy_pixels(manifest)[None] / 10, "availability": np.ones((1, 1), np.float32)}
    exact, found = (ort.InferenceSession(c).run(None, feed)[0] for c in (content, halved))
    np.testing.assert_allclose(found, exact, atol=FLOAT16_ATOL)


@pytest.mark.parametrize("sizes", [False, True])
def test_float16_reaches_through_the_resizing_and_joining_of_a_decoder(sizes):
    """Encoder, resized decoder with a skip, head: all convolutions but the head are float16."""
    ort = pytest.importorskip("onnxruntime")
    content = _small_decoder(sizes)
    model = onnx.load_from_string(float16_model(content, ["y"]))
    types = {v.name: v.type.tensor_type.elem_type
             for v in onnx.shape_inference.infer_shapes(model).graph.value_info}  # fmt: skip
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Resize", "Concat", "Pad"):
            wanted = TensorProto.FLOAT if node.name == "head" else TensorProto.FLOAT16
            assert types.get(node.output[0], TensorProto.FLOAT) == wanted, node.name
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert len(casts) == 2  # in after the input, out before the head
    feed = {"x": np.random.default_rng(0).normal(0, 1, (2, 1, 8, 8)).astype(np.float32)}
    exact, found = (
        ort.InferenceSession(c).run(None, feed)[0] for c in (content, model.SerializeToString())
    )
    np.testing.assert_allclose(found, exact, atol=FLOAT16_ATOL)


def _small_decoder(sizes: bool) -> bytes:
    rng = np.random.default_rng(1)
    shapes = {"w1": (4, 1, 3, 3), "w2": (4, 4, 3, 3), "w3": (4, 2, 2, 2), "w4": (2, 6, 3, 3),
              "w5": (3, 2, 1, 1)}  # fmt: skip
    constants = {name: rng.normal(0, 0.3, shape).astype(np.float32)
                 for name, shape in shapes.items()}  # fmt: skip
    constants |= {
        "edges": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "zero": np.zeros((), np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "sizes": np.array([2, 4, 8, 8], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="one", pads=[1, 1, 1, 1]),
        helper.make_node("Pad", ["a", "edges", "zero"], ["b"], name="pad"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="two", strides=[2, 2]),
        helper.make_node("Resize", ["c", "", "", "sizes"] if sizes else ["c", "", "scales"], ["d"],
                         name="resize", mode="linear"),
        helper.make_node("ConvTranspose", ["c", "w3"], ["e"], name="up", strides=[2, 2]),
        helper.make_node("Concat", ["d", "e"], ["f"], name="join", axis=1),
        helper.make_node("Conv", ["f", "w4"], ["g"], name="three", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["g", "w5"], ["y"], name="head"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString()


def test_float16_refuses_what_it_cannot_keep():
    with pytest.raises(ArtifactError, match="no convolution"):
        float16_model(tiny_onnx(tiny_manifest()), ())
    with pytest.raises(ArtifactError, match="float16 range"):
        float16_model(_one_convolution(weight=1e6), ())


def test_float16_shares_a_weight_that_float32_nodes_still_read():
    """The same initializer feeds a convolution and, as float32, an output."""
    model = onnx.load_from_string(float16_model(_one_convolution(weight=0.5, reuse=True), ()))
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert stored["w"].dtype == np.float32 and stored["w_float16"].dtype == np.float16


def _one_convolution(weight: float, reuse: bool = False) -> bytes:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1, 4, 4])]
    if reuse:
        nodes.append(helper.make_node("Neg", ["w"], ["z"]))
        outputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 1, 1, 1]))
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 4, 4])],
        outputs,
        [numpy_helper.from_array(np.full((1, 1, 1, 1), weight, np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()
