"""INT8 graphs read bytes, channels last, and answer as before; all others are left as they are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support import tiny

from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.backends.cpu.openvino import ov
from esccs_edge.backends.cpu.quantized_inputs import expose_quantized_inputs
from esccs_edge.contracts.values import PatchPair

#: Wide enough for every value that the manifest lets through.
STEPS = {"optical": 0.08, "sar": 0.05}


def quantized_model(manifest, *, zero: int = 0, scales=STEPS) -> bytes:
    """The small model with ``QuantizeLinear`` and ``DequantizeLinear`` behind its image inputs."""
    model = onnx.load_from_string(tiny.tiny_onnx(manifest))
    graph = model.graph
    nodes = []
    for name, scale in scales.items():
        constants = {"scale": np.float32(scale), "zero": np.full(np.shape(scale), zero, np.int8)}
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), f"{name}_{key}")
            for key, value in constants.items()
        )
        inputs = [f"{name}_scale", f"{name}_zero"]
        axis = {"axis": 1} if np.ndim(scale) else {}
        nodes += [
            helper.make_node("QuantizeLinear", [name, *inputs], [f"{name}_q"], **axis),
            helper.make_node("DequantizeLinear", [f"{name}_q", *inputs], [f"{name}_dq"], **axis),
        ]
        for node in graph.node:
            node.input[:] = [f"{name}_dq" if i == name else i for i in node.input]
    for node in reversed(nodes):
        graph.node.insert(0, node)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def exposed(content: bytes):
    core = ov.Core()
    model, steps = expose_quantized_inputs(core.read_model(content, b""))
    return core, model, steps


def test_both_images_are_read_as_bytes_channels_last():
    core, model, steps = exposed(quantized_model(tiny.tiny_manifest()))
    assert steps == pytest.approx(STEPS)
    shapes = {port.get_any_name(): port.get_partial_shape() for port in model.inputs}
    assert str(shapes["optical"]) == "[?,16,16,13]" and str(shapes["sar"]) == "[?,16,16,2]"
    types = {port.get_any_name(): port.get_element_type() for port in model.inputs}
    assert types["optical"] == types["sar"] == ov.Type.u8 and types["availability"] == ov.Type.f32


def test_bytes_give_what_the_floats_gave():
    content = quantized_model(tiny.tiny_manifest())
    core, model, steps = exposed(content)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    before = core.compile_model(core.read_model(content, b""), "CPU", options)
    after = core.compile_model(model, "CPU", options)
    rng = np.random.default_rng(1)
    floats = {"availability": np.array([[1.0, 0.5]], np.float32)}
    bytes_ = dict(floats)
    for name, channels in (("optical", 13), ("sar", 2)):
        bytes_[name] = rng.integers(0, 256, (1, 16, 16, channels)).astype(np.uint8)
        whole = bytes_[name].astype(np.float32) - 128
        floats[name] = whole.transpose(0, 3, 1, 2) * np.float32(steps[name])
    for port, wanted in before(floats).items():
        np.testing.assert_allclose(after(bytes_)[port.get_any_name()], wanted, atol=1e-4)


@pytest.mark.parametrize(
    "content",
    [
        tiny.tiny_onnx(tiny.tiny_manifest()),
        quantized_model(tiny.tiny_manifest(), zero=5),
        quantized_model(tiny.tiny_manifest(), scales={"optical": np.linspace(0.01, 0.03, 13)}),
    ],
    ids=["float", "zero point", "scale per channel"],
)
def test_what_is_not_of_that_form_stays(content):
    _, model, steps = exposed(content)
    assert not steps
    assert all(port.get_element_type() == ov.Type.f32 for port in model.inputs)


@pytest.mark.parametrize("scales", [STEPS, {"sar": 0.05}], ids=["both", "SAR only"])
def test_a_lane_feeds_what_the_graph_reads(bundle, scales):
    manifest = bundle.manifest
    options = {"max_batch": 3, "precision": "fp32"}
    pairs = [PatchPair(*tiny.raw_pair(manifest, seed)) for seed in range(3)]
    plain = CpuBackend(bundle, manifest, **options).open_lane().answer(pairs)
    quantized = bundle.add({"student.onnx": quantized_model(manifest, scales=scales)})
    lane = CpuBackend(quantized, quantized.manifest, **options).open_lane()
    kinds = {name: array.dtype for name, array in lane._slots[0].arrays.items()}
    assert (kinds["optical"], kinds["sar"]) == (
        np.uint8 if "optical" in scales else np.float32,
        np.uint8,
    )
    found = lane.answer(pairs)
    for name, stats in plain.stats.items():
        np.testing.assert_allclose(found.stats[name], stats, rtol=1e-6)
    # Means over 256 pixels, each off by half a step at most, to either side.
    np.testing.assert_allclose(found.outputs["logits"], plain.outputs["logits"], atol=0.02)
    np.testing.assert_allclose(found.outputs["gate"], plain.outputs["gate"], atol=1e-6)
