"""Timing beside other runtimes: fair preprocessing, one network, the same answers, all rows."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from click.testing import CliRunner
from support.tiny import tiny_manifest

from esccs_edge.bench.compare import Plan, bench
from esccs_edge.bench.peers import OURS, PEERS
from esccs_edge.bench.peers.agreement import check_agreement
from esccs_edge.bench.peers.numpy_preprocess import NumpyPreprocess
from esccs_edge.bench.peers.process import PeerProcess
from esccs_edge.bench.peers.worker import timed
from esccs_edge.bench.pixels import write_pixels
from esccs_edge.bench_energy import energy_source, measured
from esccs_edge.cli import main
from esccs_edge.errors import ArtifactError, BackendError, InputError
from esccs_edge.pixels.preprocess import preprocess

#: float32, in another order of operations; normalised values are of the order of ten.
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


def test_torch_runs_the_exported_graph(student):
    torch = pytest.importorskip("torch")
    onnxruntime = pytest.importorskip("onnxruntime")
    from esccs_edge.bench.peers.onnx_to_torch import torch_module

    content = student.read("student.onnx")
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.normal(size=(4, *shape[1:])).astype(np.float32)
        for name, shape in student.manifest.inputs.items()
    }
    inputs["availability"] = np.array([[1, 1], [1, 0], [0, 1], [0.5, 0.2]], np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    expected = session.run(["logits", "gate"], inputs)
    with torch.inference_mode():
        found = torch_module(content)(**{k: torch.from_numpy(v) for k, v in inputs.items()})
    for array, tensor in zip(expected, found, strict=True):
        np.testing.assert_allclose(tensor.numpy(), array, atol=1e-4 * np.abs(array).max())


def test_torch_refuses_an_operator_it_does_not_know_by_name(bundle):
    pytest.importorskip("torch")
    from esccs_edge.bench.peers.onnx_to_torch import torch_module

    with pytest.raises(ArtifactError, match="GlobalAveragePool"):
        torch_module(bundle.read("student.onnx"))


def test_a_resized_student_answers_larger_patches_with_the_same_weights(student, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from esccs_edge import Classifier
    from esccs_edge.bench.peers.resized import resized_bundle

    resized = resized_bundle(student, 48, tmp_path / "resized")
    assert resized.manifest.sample.height == 48 and resized.manifest.model == student.manifest.model
    assert student.manifest.sample.height == 32
    assert resized.verify() == ["student.int8.onnx", "student.onnx"]
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
    from support.tiny import weights

    from esccs_edge.bench.peers.resized import resized_bundle
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
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in {**manifest.inputs, **manifest.outputs}.items()
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


def test_agreement_is_told_per_peer():
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


# ---- energy and single calls --------------------------------------------------------------------


def test_rapl_counts_packages_once_and_survives_the_end_of_its_range(tmp_path):
    zones = tmp_path / "sys/class/powercap"
    for zone, name, reading in (
        ("intel-rapl:0", "package-0", 900), ("intel-rapl:1", "package-1", 100),
        ("intel-rapl:0:0", "core", 5), ("intel-rapl:2", "psys", 5),
    ):  # fmt: skip
        (zones / zone).mkdir(parents=True)
        (zones / zone / "name").write_text(f"{name}\n")
        (zones / zone / "energy_uj").write_text(f"{reading}\n")
        (zones / zone / "max_energy_range_uj").write_text("1000\n")
    assert energy_source(tmp_path) == "rapl"
    with measured("rapl", tmp_path) as energy:
        (zones / "intel-rapl:0" / "energy_uj").write_text("50\n")  # 900 -> 1000 -> 50
        (zones / "intel-rapl:1" / "energy_uj").write_text("160\n")
    assert energy.joules == pytest.approx((150 + 60) * 1e-6)


def test_without_a_sensor_there_is_no_energy(tmp_path):
    assert energy_source(tmp_path) is None
    with measured(None) as energy:
        pass
    assert energy.joules is None


def test_a_round_leaves_out_its_warm_up_unless_one_call_fills_it():
    calls = []
    samples_ms, made = timed(lambda: calls.append(1), 0.0)
    assert len(samples_ms) == made == len(calls) == 1
    samples_ms, made = timed(lambda: calls.append(1), 0.01)
    assert len(samples_ms) == made - 2 == len(calls) - 3
    samples_ms, made = timed(lambda: time.sleep(0.02), 0.01)
    assert made == 1 and samples_ms[0] >= 20


# ---- whole runs ---------------------------------------------------------------------------------


def test_peers_take_turns_and_each_gets_its_rows(student):
    peers = ("onnxruntime-fp32", "openvino-int8")
    found = bench(student, Plan(peers=peers, **QUICK))
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
    assert {row["labels"] for row in found.agreement} == {1.0}


@pytest.mark.slow
def test_every_installed_peer_is_timed_and_no_other_network(student):
    found = bench(student, Plan(peers=tuple(PEERS), **{**QUICK, "starts": 0}))
    absent = {row["peer"] for row in found.absent}
    assert absent <= {"openvino-bf16", "torch-compile"}, found.absent  # need hardware, a compiler
    assert {row.peer for row in found.rows} == set(PEERS) - absent
    assert len(found.rows) == 2 * (len(PEERS) - len(absent))


def test_a_peer_that_cannot_run_is_listed_with_the_reason(bundle, tmp_path, monkeypatch):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "cv2.py").write_text("raise ModuleNotFoundError(name='cv2')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    found = bench(bundle, Plan(peers=("opencv-dnn", "openvino-int8"), **QUICK))
    reasons = {row["peer"]: row["reason"] for row in found.absent}
    assert "the package cv2 is not installed" in reasons["opencv-dnn"]
    assert "has no student.int8.onnx" in reasons["openvino-int8"]
    assert {row.peer for row in found.rows} == {OURS}


def test_our_own_row_is_never_absent(bundle):
    with pytest.raises(BackendError, match="esccs-edge cannot be timed"):
        bench(bundle, Plan(**{**QUICK, "backend": "nonsense"}))


def test_a_worker_that_ends_is_told_from_one_that_answers(bundle, tmp_path):
    pixels = write_pixels(tmp_path / "pixels", bundle.manifest, 1)
    with PeerProcess(OURS, bundle.folder, pixels, 1, "cpu") as peer:
        assert len(peer.ask("answer", 1, logits=False)["labels"]) == 1
        peer._process.kill()
        with pytest.raises(BackendError, match="esccs-edge cannot be timed"):
            peer.ask("answer", 1, logits=False)
            peer.ask("answer", 1, logits=False)


def test_a_worker_that_is_too_slow_is_ended(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("esccs_edge.bench.peers.process.REPLY_TIMEOUT_S", 1e-3)
    pixels = write_pixels(tmp_path / "pixels", bundle.manifest, 1)
    with pytest.raises(BackendError, match="did not reply within 0.001 s"):
        PeerProcess(OURS, bundle.folder, pixels, 1, "cpu")


@pytest.mark.parametrize(
    "wrong", [{"batches": ()}, {"batches": (0,)}, {"rounds": 0}, {"peers": ("tflite",)}]
)
def test_a_plan_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InputError):
        Plan(**wrong)


def test_out_holds_the_document_a_page_and_a_picture(bundle, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    arguments = ["bench", "--bundle", bundle.folder, "--backend", "cpu", "--batch", 1, "--batch", 2,
                 "--seconds", 0, "--rounds", 1, "--threads", 1, "--patch", 24, "--out", out,
                 "--json"]  # fmt: skip
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert json.loads((out / "bench.json").read_text()) == document
    assert {row["patch"] for row in document["rows"]} == {24}
    assert document["plan"]["rounds"] == 1 and str(bundle.folder) not in result.stdout
    page = (out / "bench.md").read_text()
    assert "24 x 24 pixels, threads: 1" in page and "**esccs-edge**" in page
    for line in page.splitlines():
        assert line.count("|") in (0, *range(4, 12))
    assert (out / "bench.png").read_bytes().startswith(b"\x89PNG")
