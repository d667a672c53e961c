"""Export: torch weights become one ONNX file that answers the same."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from support.small_student import ARCHITECTURE, exported_bundle, small_bundle

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import ArtifactError, ManifestError
from esccs_edge.export import simplify, to_onnx
from esccs_edge.export.reference import availability_rows, read_reference, reference_inputs
from esccs_edge.export.to_onnx import export_student, load_student

#: Two float32 programs of the same sums in another order; logits reach about 15.
FLOAT32_ATOL = 1e-4


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Bundle:
    return exported_bundle(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def graph(exported: Bundle) -> onnx.GraphProto:
    return onnx.load_from_string(exported.read("student.onnx")).graph


def run(content: bytes, inputs: dict) -> list[np.ndarray]:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["logits", "gate"], inputs)


def random_inputs(bundle: Bundle, rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tensors = bundle.manifest.inputs.values()
    inputs = {t.name: rng.normal(0, 1, (rows, *t.row)).astype(np.float32) for t in tensors}
    inputs["availability"] = rng.choice([0, 0.5, 1], (rows, 2)).astype(np.float32)
    return inputs


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_onnx_answers_like_torch_for_any_batch_size(exported, rows):
    import torch

    inputs = random_inputs(exported, rows, seed=rows)
    logits, gate = run(exported.read("student.onnx"), inputs)
    with torch.inference_mode():
        expected = load_student(exported)(*(torch.from_numpy(inputs[n]) for n in inputs))
    np.testing.assert_allclose(logits, expected[0].numpy(), atol=FLOAT32_ATOL)
    np.testing.assert_allclose(gate, expected[1].numpy(), atol=FLOAT32_ATOL)


def test_inputs_and_outputs_are_those_of_the_manifest(exported, graph):
    def shapes(values):
        return {
            v.name: tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim)
            for v in values
        }

    for found, wanted in (
        (graph.input, exported.manifest.inputs),
        (graph.output, exported.manifest.outputs),
    ):
        assert shapes(found) == {tensor.name: tensor.shape for tensor in wanted.values()}


def test_every_node_has_a_stable_name_and_batch_norms_are_folded(graph):
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    assert {"optical.stem.0", "sar.stages.1.conv2", "gate.hidden", "head"} <= set(names)
    kinds = {node.op_type for node in graph.node}
    assert "BatchNormalization" not in kinds and "Dropout" not in kinds


def test_the_file_is_self_contained_and_holds_no_trace_of_the_machine(exported, graph):
    content = exported.read("student.onnx")
    assert not any(t.data_location or t.external_data for t in graph.initializer)
    assert not any(node.metadata_props or node.doc_string for node in graph.node)
    for trace in (b"site-packages", b".py", str(Path.home()).encode() + b"/"):
        assert trace not in content


def test_metadata_describes_the_model(exported):
    model = onnx.load_from_string(exported.read("student.onnx"))
    found = {p.key: p.value for p in model.metadata_props}
    manifest = exported.manifest
    assert json.loads(found["classes"]) == list(manifest.classes)
    assert json.loads(found["modalities"]) == ["optical", "sar"]
    assert json.loads(found["channels.optical"]) == list(manifest.modalities["optical"].channels)
    assert json.loads(found["channels.sar"]) == ["VV", "VH"]
    assert json.loads(found["sample"])["height"] == manifest.sample.height
    assert json.loads(found["normalization.sar"])["std"] == list(manifest.modalities["sar"].std)
    assert json.loads(found["normalization.sar"])["stored_unit"] == "dB"
    assert found["weights_sha256"] == manifest.files["student.safetensors"].sha256


@pytest.mark.fault(70)
def test_same_weights_give_the_same_bytes_and_an_old_calibration_is_dropped(exported, tmp_path):
    bundle = small_bundle(tmp_path / "again").add(
        {"student.int8.onnx": b"of earlier weights"}, quantization={"scheme": "int8"}
    )
    again = export_student(bundle)
    assert again.manifest.quantization is None
    assert set(again.verify()) == {
        "mlm.json",
        "student.safetensors",
        "student.onnx",
        "reference.npz",
    }
    assert not (again.folder / "student.int8.onnx").exists()
    for name in ("student.onnx", "reference.npz"):
        assert again.manifest.files[name] == exported.manifest.files[name], name
    assert again.manifest.model == "student.onnx"
    assert again.manifest.provenance["export"]["simplifier"].startswith("onnxsim ")


@pytest.mark.parametrize("absent", [0, 1])
def test_pixels_of_an_absent_modality_cannot_reach_any_output(exported, absent):
    inputs = random_inputs(exported, 4, seed=5)
    inputs["availability"][:] = 1
    inputs["availability"][:, absent] = 0
    changed = dict(inputs)
    name = ("optical", "sar")[absent]
    # The scores of the gate see both branches, but its weights are then exactly 0 and 1.
    changed[name] = inputs[name] * 3 + 1
    content = exported.read("student.onnx")
    for before, after in zip(run(content, inputs), run(content, changed), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-6)


def test_reference_covers_present_absent_and_partial_modalities_in_a_small_file(exported):
    inputs, outputs = read_reference(exported)
    np.testing.assert_array_equal(inputs["availability"], np.float32(availability_rows(2)))
    for column, name in enumerate(("optical", "sar")):
        valid = (inputs[name] != 0).any(axis=1).mean(axis=(1, 2))
        np.testing.assert_allclose(valid, inputs["availability"][:, column])
    assert len(set(outputs["logits"].argmax(1))) > 1  # a sheet of one answer would prove little
    assert exported.manifest.files["reference.npz"].bytes < 400_000


def test_reference_of_a_full_size_model_stays_below_400_kilobytes():
    from support.tiny import tiny_manifest

    from esccs_edge.export.reference import pack_reference

    assert len(pack_reference(reference_inputs(tiny_manifest(64)), {})) < 400_000


def test_a_reparameterized_block_is_one_convolution_in_the_graph(tmp_path):
    size = {"width": 4, "blocks": [2, 1], "block": "reparameterized"}
    sizes = {name: dict(size) for name in ("optical", "sar")}
    bundle = export_student(small_bundle(tmp_path / "b", architecture=sizes))
    nodes = onnx.load_from_string(bundle.read("student.onnx")).graph.node
    assert Counter(n.op_type for n in nodes)["Conv"] == 2 * (1 + 3)  # two stems, six blocks
    kernels = {tuple(a.ints) for n in nodes for a in n.attribute if a.name == "kernel_shape"}
    assert kernels == {(3, 3)}


def test_a_manifest_without_architecture_is_refused_and_nothing_written(tmp_path):
    bundle = small_bundle(tmp_path / "b")
    bundle = bundle.add({}, architecture={})
    before = listing(bundle.folder)
    with pytest.raises(ManifestError, match="architecture"):
        export_student(bundle)
    assert listing(bundle.folder) == before


def test_weights_of_another_architecture_are_refused_and_nothing_written(tmp_path):
    wider = {**ARCHITECTURE, "sar": {"width": 6, "blocks": [1, 1]}}
    bundle = small_bundle(tmp_path / "b").add({}, architecture=wider)
    before = listing(bundle.folder)
    with pytest.raises(ArtifactError, match="does not fit the architecture"):
        export_student(bundle)
    assert listing(bundle.folder) == before


def test_weights_that_are_not_finite_are_refused_and_nothing_written(tmp_path):
    from safetensors.torch import load, save

    bundle = small_bundle(tmp_path / "b")
    state = load(bundle.read("student.safetensors"))
    state["head.weight"][0, 0] = float("nan")
    bundle = bundle.add({"student.safetensors": save(state)})
    before = listing(bundle.folder)
    with pytest.raises(ArtifactError, match="NaN"):
        export_student(bundle)
    assert listing(bundle.folder) == before


def header(text: bytes, length: int | None = None) -> bytes:
    """Weights of this header and no data."""
    return (len(text) if length is None else length).to_bytes(8, "little") + text


FLOATS = b'"dtype":"F32","shape":[2],"data_offsets"'


@pytest.mark.fault(58)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x02\x00\x00",
        header(b"{}", length=2**60),
        header(b"{", length=1),
        header(b"\xff\xfe"),
        header(b'{"a":{' + FLOATS + b":[0,8]}}"),
        header(b'{"a":{' + FLOATS + b":[0,8]}}") + bytes(4),
        header(b'{"a":{' + FLOATS + b':[0,8]},"b":{' + FLOATS + b":[4,12]}}") + bytes(12),
        header(b'{"a":{' + FLOATS + b':[0,8]},"a":{' + FLOATS + b":[0,8]}}") + bytes(8),
        header(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'),
        header(b'{"a":{"dtype":"X","shape":[],"data_offsets":[0,4]}}') + bytes(4),
        header(b"[" * 3000 + b"]" * 3000),
    ],
    ids=range(12),
)
def test_weights_with_a_hostile_header_are_refused_and_nothing_written(tmp_path, content):
    bundle = small_bundle(tmp_path / "b").add({"student.safetensors": content})
    before = listing(bundle.folder)
    with pytest.raises(ArtifactError, match=r"student\.safetensors"):
        export_student(bundle)
    assert listing(bundle.folder) == before


def test_an_exporter_that_changes_answers_is_refused_and_nothing_written(
    exported, tmp_path, monkeypatch
):
    model = onnx.load_from_string(exported.read("student.onnx"))
    bias = next(t for t in model.graph.initializer if t.name == "head.bias")
    values = onnx.numpy_helper.to_array(bias) + np.float32(0.01)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    monkeypatch.setattr(to_onnx, "_onnx_from_torch", lambda *_: model.SerializeToString())
    bundle = small_bundle(tmp_path / "b")
    before = listing(bundle.folder)
    with pytest.raises(ArtifactError, match="does not answer like the trained network"):
        export_student(bundle)
    assert listing(bundle.folder) == before


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.abort()", "ended with code"),
        ("import time; time.sleep(60)", "took longer"),
        (
            "import sys, onnx\nm = onnx.load(sys.argv[1])\n"
            "for t in m.graph.initializer:\n"
            "    t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(t) * 2, t.name)"
            " if t.data_type == 1 else t)\n"
            "onnx.save(m, sys.argv[2])",
            "changed an output",
        ),
    ],
)
def test_a_simplifier_that_crashes_hangs_or_changes_answers_is_not_believed(
    exported, monkeypatch, program, reason
):
    plain = exported.read("student.onnx")
    monkeypatch.setattr(simplify, "_PROGRAM", program)
    monkeypatch.setattr(simplify, "SIMPLIFY_TIMEOUT_S", 5.0 if "sleep" not in program else 0.5)
    kept, made_by = simplify.simplified(plain, read_reference(exported)[0])
    assert kept == plain
    assert made_by.startswith("none: ") and reason in made_by
