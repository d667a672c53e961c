"""INT8 of a student that sees where a modality ends: fed with bytes still, and exact."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.small_segmenter import segmenter_manifest

from esccs_edge.backends.cpu.openvino import ov
from esccs_edge.backends.cpu.quantized_inputs import expose_quantized_inputs
from esccs_edge.calibration.recipe import insert_qdq, tensorrt_recipe
from esccs_edge.contracts.bundle import Bundle

SIDE = 64
RANGE = 4.0
ARCHITECTURE = {
    "encoder": "esccs_edge.training.learning.pyramid:convolutional", "widths": [4, 6, 8, 8],
    "blocks": [1, 1, 1, 1], "decoder": [8, 6, 6, 4, 4], "gate": "weighing",
}  # fmt: skip


@pytest.fixture(scope="module")
def int8(tmp_path_factory) -> bytes:
    """The exported student of random weights with Q/DQ pairs of one range."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from safetensors.torch import save

    from esccs_edge.export.to_onnx import export_student
    from esccs_edge.training.learning.tasks import learning_task

    torch.manual_seed(0)
    manifest = segmenter_manifest(SIDE, architecture=ARCHITECTURE)
    state = learning_task(manifest.task).network(manifest).state_dict()
    files = {"student.safetensors": save({k: v.contiguous() for k, v in state.items()})}
    bundle = export_student(Bundle.create(tmp_path_factory.mktemp("student"), manifest, files))
    model = onnx.load_from_string(bundle.read("student.onnx"))
    recipe = tensorrt_recipe(model)
    ranges = dict.fromkeys(recipe.activations, RANGE)
    return insert_qdq(model, recipe, ranges).SerializeToString()


def gate_of(int8: bytes, optical, sar, share):
    import onnxruntime as ort

    session = ort.InferenceSession(int8, providers=["CPUExecutionProvider"])
    inputs = {"optical": optical, "sar": sar, "availability": np.array([share], np.float32)}
    return session.run(["gate"], inputs)[0][0]


def pair(scale: float = 1.0):
    rng = np.random.default_rng(0)
    return [scale * rng.normal(size=(1, n, SIDE, SIDE)).astype(np.float32) for n in (13, 2)]


def test_both_inputs_are_read_as_bytes(int8):
    model, steps = expose_quantized_inputs(ov.Core().read_model(int8, b""))
    assert steps == pytest.approx({"optical": RANGE / 127, "sar": RANGE / 127}, rel=1e-4)
    types = {port.get_any_name(): port.get_element_type() for port in model.inputs}
    assert types["optical"] == types["sar"] == ov.Type.u8


@pytest.mark.parametrize("lost", [0, 1], ids=["optical", "sar"])
def test_where_a_modality_ends_its_share_is_exactly_zero(int8, lost):
    images = pair()
    images[lost][..., 37:] = 0
    share = [1.0, 1.0]
    share[lost] = 37 / SIDE
    gate = gate_of(int8, *images, share)
    assert (gate[lost, :, 37:] == 0).all() and (gate[1 - lost, :, 37:] == 1).all()
    assert (gate[1 - lost, :, :37] < 1).mean() > 0.99


def test_pixels_that_round_to_zero_are_there_where_nothing_is_absent(int8):
    gate = gate_of(int8, *pair(scale=1e-3), [1.0, 1.0])
    assert (gate > 0).all()
