"""Timing beside other runtimes: fair preprocessing, one network, the same answers, all rows."""

from __future__ import annotations

import json
import os
import platform

import numpy as np
import pytest
from benchmarks import page
from benchmarks.peers import OURS, PEERS
from benchmarks.peers.agreement import check_agreement
from benchmarks.peers.comparison import Plan, compare
from benchmarks.peers.numpy_preprocess import NumpyPreprocess
from benchmarks.peers.pixels import write_pixels
from benchmarks.peers.process import PeerProcess
from support.tiny import tiny_manifest

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import ArtifactError, BackendError, InputError
from esccs_edge.pixels.preprocess import preprocess

#: float32, in another order of operations; normalized values are of the order of ten.
NUMPY_ATOL = 2e-5
#: Enough rows to see that all is there; no time of such a run means anything.
QUICK = {"batches": (1, 3), "threads": (1,), "seconds": 0.0, "rounds": 2, "starts": 1,
         "backend": "cpu"}  # fmt: skip


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A small student of 32 x 32 pixels with both graphs."""
    pytest.importorskip("torch", reason="making a student needs torch")
    from support.small_student import calibrated_bundle

    return calibrated_bundle(tmp_path_factory.mktemp("bench") / "bundle")


# ---- what peers are fed with --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_numpy_preprocessing_is_ours_with_nodata_clipping_and_nan(dtype):
    manifest = tiny_manifest()
    rng = np.random.default_rng(0)
    optical = rng.integers(1, 20000, (3, 13, 16, 16)).astype(dtype)
    sar = rng.uniform(-50, 20, (3, 2, 16, 16)).astype(np.float32)
    optical[0, :, :5] = 0
    sar[1, :, 3:6, 2] = np.nan
    sar[2] = 0
    found = NumpyPreprocess(manifest)(optical, sar)
    for column, (name, stored) in enumerate((("optical", optical), ("sar", sar))):
        out = np.empty(stored.shape, np.float32)
        stats = preprocess(list(stored), manifest.modalities[name], out)
        np.testing.assert_allclose(found[name], out, atol=NUMPY_ATOL, rtol=1e-5)
        np.testing.assert_allclose(
            found["availability"][:, column], [seen.availability for seen in stats], atol=1e-6
        )


def test_numpy_preprocessing_obeys_an_offset_and_another_nodata():
    from dataclasses import replace

    manifest = tiny_manifest()
    spec = replace(manifest.modalities["optical"], dn_offset=-1000.0, nodata=7.0)
    manifest = manifest.with_modality("optical", spec)
    optical = np.random.default_rng(0).integers(900, 9000, (1, 13, 16, 16), np.uint16)
    optical[0, :, 2, 2] = 7
    out = np.empty(optical.shape, np.float32)
    preprocess(list(optical), spec, out)
    found = NumpyPreprocess(manifest)(optical, np.full((1, 2, 16, 16), -9, np.float32))
    np.testing.assert_allclose(found["optical"], out, atol=NUMPY_ATOL, rtol=1e-5)
    assert found["availability"][0].tolist() == pytest.approx([255 / 256, 1])


def test_timed_pixels_are_all_valid_and_inside_the_range_the_network_knows(tmp_path):
    manifest = tiny_manifest()
    folder = write_pixels(tmp_path, manifest, 5)
    for name, kind in (("optical", "u"), ("sar", "f")):
        stored = np.load(folder / f"{name}.npy")
        out = np.empty(stored.shape, np.float32)
        stats = preprocess(list(stored), manifest.modalities[name], out)
        assert stored.dtype.kind == kind and len({image.tobytes() for image in stored}) == 5
        assert all(seen.availability == 1 and not seen.nonfinite for seen in stats)
        assert abs(out.mean()) < 1 and 0.2 < out.std() < 2


# ---- the same network ---------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False], ids=["small student", "model of the package"])
def test_torch_runs_the_exported_graph(student, own):
    torch = pytest.importorskip("torch")
    onnxruntime = pytest.importorskip("onnxruntime")
    from benchmarks.peers.onnx_to_torch import torch_module

    bundle = student if own else Bundle.open(None)
    content = bundle.read("student.onnx")
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.normal(size=(4, *tensor.row)).astype(np.float32)
        for name, tensor in bundle.manifest.inputs.items()
    }
    inputs["availability"] = np.array([[1, 1], [1, 0], [0, 1], [0.5, 0.2]], np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    expected = session.run(list(bundle.manifest.outputs), inputs)
    with torch.inference_mode():
        found = torch_module(content)(**{k: torch.from_numpy(v) for k, v in inputs.items()})
    for array, tensor in zip(expected, found, strict=True):
        np.testing.assert_allclose(tensor.numpy(), array, atol=1e-4 * np.abs(array).max())


def test_torch_refuses_an_operator_it_does_not_know_by_name(bundle):
    pytest.importorskip("torch")
    from benchmarks.peers.onnx_to_torch import torch_module

    with pytest.raises(ArtifactError, match="GlobalAveragePool"):
        torch_module(bundle.read("student.onnx"))


def test_a_resized_student_answers_larger_patches_with_the_same_weights(student, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from benchmarks.peers.resized import resized_bundle

    from esccs_edge import Classifier

    resized = resized_bundle(student, 48, tmp_path / "resized")
    assert resized.manifest.sample.height == 48 and resized.manifest.model == student.manifest.model
    assert student.manifest.sample.height == 32
    assert resized.verify() == ["mlm.json", "student.int8.onnx", "student.onnx"]
    with Classifier(resized, backend="cpu", max_batch=2) as classifier:
        answer = classifier.classify(np.full((13, 48, 48), 900, np.uint16), None)
        assert answer.label in student.manifest.classes
    # Inside a constant image, all places look the same; only the share of border pixels changes.
    gates = []
    for each, size in ((student, 32), (resized, 48)):
        session = onnxruntime.InferenceSession(
            each.read("student.onnx"), providers=["CPUExecutionProvider"]
        )
        inputs = {
            "optical": np.full((1, 13, size, size), 0.1, np.float32),
            "sar": np.full((1, 2, size, size), 0.1, np.float32),
            "availability": np.ones((1, 2), np.float32),
        }
        gates.append(session.run(["gate"], inputs)[0])
    assert np.abs(gates[0] - gates[1]).max() < 0.2


def test_a_graph_bound_to_its_size_is_not_resized(tmp_path):
    onnx = pytest.importorskip("onnx")
    from benchmarks.peers.resized import resized_bundle
    from support.tiny import weights

    from esccs_edge.contracts.bundle import Bundle

    manifest = tiny_manifest()
    helper = onnx.helper
    pixels = 2 * 16 * 16
    weight = np.zeros((pixels, 4), np.float32)
    nodes = [
        helper.make_node("Flatten", ["sar"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        helper.make_node("Identity", ["availability"], ["gate"]),
    ]
    info = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, tensor.shape)
        for name, tensor in {**manifest.inputs, **manifest.outputs}.items()
    ]
    graph = helper.make_graph(
        nodes, "bound", info[:3], info[3:], [onnx.numpy_helper.from_array(weight, "weight")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert weights(manifest)[0].shape[0] == 4
    bundle = Bundle.create(
        tmp_path / "bound", manifest, {"student.onnx": model.SerializeToString()}
    )
    with pytest.raises(ArtifactError, match="patches of 32"):
        resized_bundle(bundle, 32, tmp_path / "resized")
    assert not (tmp_path / "resized").exists()


# ---- the same answers ---------------------------------------------------------------------------

LOGITS = np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 2.0, 2.1]])
LABELS = ["a", "b", "c"]


def answers(**others):
    return {
        OURS: {"labels": LABELS, "logits": None},
        "onnxruntime-fp32": {"labels": LABELS, "logits": LOGITS},
        **others,
    }


def test_agreement_is_reported_per_peer():
    found = check_agreement(
        answers(**{"openvino-int8": {"labels": ["a", "b", "b"], "logits": LOGITS + 0.2}})
    )
    by_name = {row.peer: row for row in found}
    assert by_name[OURS].labels == 1 and by_name[OURS].logits is None
    assert by_name["onnxruntime-fp32"].logits == 0
    assert by_name["openvino-int8"].labels == pytest.approx(2 / 3)  # the third is a close call
    assert by_name["openvino-int8"].logits == pytest.approx(0.05)


@pytest.mark.parametrize("shift", [1e-3, np.nan])
def test_a_float32_peer_that_differs_beyond_rounding_is_refused(shift):
    with pytest.raises(BackendError, match="torch-eager differ.*onnxruntime-fp32"):
        check_agreement(answers(**{"torch-eager": {"labels": LABELS, "logits": LOGITS + shift}}))


def test_another_label_on_a_clear_pair_is_refused():
    with pytest.raises(BackendError, match="openvino-int8 gives another label.*1 of 3"):
        check_agreement(answers(**{"openvino-int8": {"labels": ["a", "a", "c"], "logits": LOGITS}}))


# ---- whole runs ---------------------------------------------------------------------------------


def test_peers_take_turns_and_each_gets_its_rows(student):
    peers = ("onnxruntime-fp32", "openvino-int8")
    found = compare(student, Plan(peers=peers, **QUICK))
    if found.absent:
        pytest.skip(f"not installed here: {found.absent}")
    cells = [(row.peer, row.batch) for row in found.rows]
    assert cells == [(name, batch) for batch in (1, 3) for name in (OURS, *peers)]
    assert all(row.patch == 32 and row.threads == 1 for row in found.rows)
    for row, against in zip(found.rows, found.comparisons, strict=True):
        assert (row.peer, row.batch) == (against.peer, against.batch)
        assert 0 < row.p50_ms <= row.p90_ms <= row.p99_ms
        assert 0 < against.ratio_low <= against.ratio <= against.ratio_high
        assert against.rounds == 2 and against.calls >= 2
        assert against.ratio == 1 or row.peer != OURS
    assert [row["peer"] for row in found.fresh] == [OURS, *peers]
    for row in found.fresh:
        assert 0 < row["import_ms"] < row["cold_start_ms"] and row["peak_rss_mb"] > 10
    for row in found.parts:
        assert row["preprocess_ms"] > 0 and row["postprocess_ms"] > 0
        assert (row["queue_ms"] is not None) == (row["peer"] == OURS and row["batch"] == 1)
    # A label that differs on anything but a close call would have been refused.
    assert all(row["labels"] == 1 or row["peer"] != OURS for row in found.agreement)
    assert min(row["labels"] for row in found.agreement) > 0.5


@pytest.mark.slow
def test_every_installed_peer_is_timed_and_no_other_network(student):
    found = compare(student, Plan(peers=tuple(PEERS), **{**QUICK, "starts": 0}))
    absent = {row["peer"] for row in found.absent}
    assert absent <= {"openvino-bf16", "torch-compile"}, found.absent  # need hardware, a compiler
    assert {row.peer for row in found.rows} == set(PEERS) - absent
    assert len(found.rows) == 2 * (len(PEERS) - len(absent))


def test_a_peer_that_cannot_run_is_listed_with_the_reason(bundle, tmp_path, monkeypatch):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "cv2.py").write_text("raise ModuleNotFoundError(name='cv2')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"), prepend=os.pathsep)
    found = compare(bundle, Plan(peers=("opencv-dnn", "openvino-int8"), **QUICK))
    reasons = {row["peer"]: row["reason"] for row in found.absent}
    assert "the package cv2 is not installed" in reasons["opencv-dnn"]
    assert "has no student.int8.onnx" in reasons["openvino-int8"]
    assert {row.peer for row in found.rows} == {OURS}


def test_our_own_row_is_never_absent(bundle):
    with pytest.raises(BackendError, match="esccs-edge cannot be timed"):
        compare(bundle, Plan(**{**QUICK, "backend": "nonsense"}))


def test_a_worker_that_ends_raises_an_error_at_the_next_order(bundle, tmp_path):
    pixels = write_pixels(tmp_path / "pixels", bundle.manifest, 1)
    with PeerProcess(OURS, bundle.folder, pixels, 1, "cpu") as peer:
        assert len(peer.ask("answer", 1, logits=False)["labels"]) == 1
        peer._process.kill()
        with pytest.raises(BackendError, match="esccs-edge cannot be timed"):
            peer.ask("answer", 1, logits=False)
            peer.ask("answer", 1, logits=False)


def test_a_worker_that_is_too_slow_is_ended(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.peers.process.REPLY_TIMEOUT_S", 1e-3)
    pixels = write_pixels(tmp_path / "pixels", bundle.manifest, 1)
    with pytest.raises(BackendError, match="did not reply within 0.001 s"):
        PeerProcess(OURS, bundle.folder, pixels, 1, "cpu")


@pytest.mark.parametrize(
    "wrong", [{"batches": ()}, {"batches": (0,)}, {"rounds": 0}, {"peers": ("tflite",)}]
)
def test_a_plan_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InputError):
        Plan(**wrong)


def test_the_page_holds_tables_and_a_picture_of_all_that_was_measured(bundle, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("onnx")
    out = tmp_path / "out"
    arguments = ["--bundle", bundle.folder, "--part", "peers", "--peer", "openvino-fp32", "--patch",
                 24, "--batch", 1, "--batch", 2, "--threads", 1, "--seconds", 0, "--rounds", 1,
                 "--out", out]  # fmt: skip
    page.main([str(argument) for argument in arguments])
    document = json.loads((out / "peers.json").read_text())
    assert {(row["peer"], row["patch"], row["batch"]) for row in document["rows"]} == {
        (name, 24, batch) for name in (OURS, "openvino-fp32") for batch in (1, 2)
    }
    assert document["plan"]["rounds"] == 1 and str(bundle.folder) not in json.dumps(document)
    text = (out / "peers.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert "24 x 24 pixels, threads: 1" in text and "**esccs-edge**" in text
    for line in text.splitlines():
        assert line.count("|") in (0, *range(4, 12))
    assert (out / "peers.png").read_bytes().startswith(b"\x89PNG")


# ---- OpenVINO under ONEDNN_MAX_CPU_ISA ----------------------------------------------------------


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable is one of x86")
def test_openvino_peers_answer_or_say_why_where_instructions_are_ruled_out(student, monkeypatch):
    """A CPU may have bfloat16 that oneDNN must not use; its kernels are chosen in a new process."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    peers = ("openvino-int8", "openvino-bf16", "openvino-fp32")
    found = compare(student, Plan(peers=peers, **QUICK))
    assert {row.peer for row in found.rows} >= {OURS, "openvino-fp32"}
    reasons = {row["peer"]: row["reason"] for row in found.absent}
    assert "no INT8 dot products" in reasons.pop("openvino-int8")
    assert all("bfloat16 on this CPU" in reason for reason in reasons.values())
    assert reasons.keys() <= {"openvino-bf16"}
