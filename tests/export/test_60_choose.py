"""Choosing a precision: the rule on numbers, and the whole way on a fake GPU.

Nothing here is a measurement of a GPU; that is for `gpu` runs on the target.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_gpu import FakeDriver
from support.fake_trt import onnx_network
from support.pairs import pair_row
from support.power_meters import Steady
from support.tiny import CLASSES, expected, raw_pair, tiny_manifest, tiny_onnx
from support.toy_task import toy_bundle, toy_manifest, toy_onnx
from support.trt_machine import Machine

from esccs_edge.backends.trt import backend as trt_backend
from esccs_edge.backends.trt import engine_builder
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.cuda.device import Device
from esccs_edge.cuda.probe import DriverInfo, GpuInfo
from esccs_edge.errors import BackendError, InputError
from esccs_edge.export import choose, measure
from esccs_edge.export.choice import MeasuredPrecision, pick
from esccs_edge.export.choose import REPORT_NAME, choose_precision
from esccs_edge.export.measure import Speed, measure_speed
from esccs_edge.export.reference import pack_reference, reference_inputs
from esccs_edge.rasters.pair_index import write_index

GPU = DriverInfo("13.0", (GpuInfo("Fake GPU", (8, 7), False, 1 << 30),), "")
FILES = {"fp32": "student.onnx", "fp16": "student.fp16.onnx", "int8": "student.int8.onnx"}


def speed(p50_ms, pairs_per_s):
    return Speed(p50_ms, 2 * p50_ms, 3 * p50_ms, pairs_per_s, 8)


def measured(**changes):
    made = {
        "fp32": MeasuredPrecision("fp32", label_agreement=1.0, speed=speed(3.0, 100.0)),
        "fp16": MeasuredPrecision("fp16", label_agreement=1.0, speed=speed(2.0, 400.0)),
        "int8": MeasuredPrecision("int8", label_agreement=0.99, speed=speed(1.0, 300.0)),
    }
    return [replace(made[name], **changes.get(name, {})) for name in made]


def test_fastest_within_the_budget_is_picked():
    assert pick(measured(), budget=0.01, prefer="latency").precision == "int8"
    assert pick(measured(), budget=0.01, prefer="throughput").precision == "fp16"
    assert pick(measured(), budget=0.005, prefer="latency").precision == "fp16"


def test_accuracy_counts_before_agreement_and_is_held_against_float32():
    found = measured(fp32={"accuracy": 0.80}, fp16={"accuracy": 0.795}, int8={"accuracy": 0.78})
    assert pick(found, budget=0.01, prefer="latency").precision == "fp16"
    assert pick(found, budget=0.02, prefer="latency").precision == "int8"


def test_a_precision_with_a_problem_is_never_picked():
    found = measured(int8={"problem": "a logit is off"}, fp16={"problem": "no kernel"})
    assert pick(found, budget=1.0, prefer="latency").precision == "fp32"
    with pytest.raises(BackendError, match="int8: a logit is off"):
        pick(found[1:], budget=1.0, prefer="latency")


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 100)), min_size=3, max_size=3),
       st.floats(0, 1))  # fmt: skip
def test_nothing_within_the_budget_is_faster_than_the_pick(numbers, budget):
    found = [
        replace(one, accuracy=accuracy, speed=speed(p50, 1.0))
        for one, (accuracy, p50) in zip(measured(), numbers, strict=True)
    ]
    picked = pick(found, budget=budget, prefer="latency")
    assert found[0].accuracy - picked.accuracy <= budget + 1e-9
    for other in found:
        if found[0].accuracy - other.accuracy <= budget:
            assert picked.speed.p50_ms <= other.speed.p50_ms


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A fake GPU on which several backends may be opened one after the other."""
    made = Machine(monkeypatch, tmp_path)

    def open_device(cls, ordinal=0):
        made.driver = made.flavor.trt.driver = FakeDriver()
        return Device(made.driver)

    monkeypatch.setattr(trt_backend.Device, "open", classmethod(open_device))
    monkeypatch.setattr(choose, "probe_driver", lambda: GPU)
    monkeypatch.setattr(choose, "find_meter", lambda: None)
    monkeypatch.setattr(measure, "WARMUP_ROUNDS", 2)
    monkeypatch.setattr(measure, "MIN_ROUNDS", 20)
    return made


@pytest.fixture
def bundle(tmp_path):
    """Three precisions by name; on the fake GPU all of them answer like tiny's NumPy twin."""
    manifest = tiny_manifest()
    inputs = reference_inputs(manifest)
    outputs = dict(zip(("logits", "gate"), expected(manifest, *inputs.values()), strict=True))
    outputs = {name: value.astype(np.float32) for name, value in outputs.items()}
    files = {}
    for name in FILES.values():  # of different content, so that each has an engine of its own
        model = onnx.load_model_from_string(tiny_onnx(manifest))
        model.doc_string = name
        files[name] = model.SerializeToString()
    files["reference.npz"] = pack_reference(inputs, outputs)
    return Bundle.create(tmp_path / "bundle", manifest, files)


def test_model_of_another_task_is_chosen_by_its_agreement(machine, tmp_path, monkeypatch):
    manifest = toy_manifest()
    inputs, content = reference_inputs(manifest), toy_onnx(manifest)
    reference = pack_reference(inputs, onnx_network(content)(inputs))
    files = {"student.onnx": content, "reference.npz": reference}
    bundle = Bundle.create(tmp_path / "toy", manifest, files)
    machine.serve(bundle)
    monkeypatch.setattr(choose, "measure_speed", lambda *a, **k: speed(1.0, 1.0))
    made, choice = choose_precision(bundle, tmp_path / "new", seconds=0)
    floats = choice.candidates[:2]
    assert [(row.problem, row.label_agreement) for row in floats] == [("", 1.0)] * 2
    assert choice.picked in ("fp32", "fp16") and made.manifest.task == "toy-mapping"


def with_speeds(monkeypatch, **p50_ms):
    names = iter(p50_ms)
    monkeypatch.setattr(
        choose, "measure_speed", lambda *a, **k: speed(p50_ms[next(names)], 1.0)
    )  # fmt: skip


def test_new_bundle_runs_the_pick_and_holds_the_report(machine, bundle, tmp_path, monkeypatch):
    with_speeds(monkeypatch, fp32=3.0, fp16=1.0, int8=2.0)
    steps = []
    made, choice = choose_precision(
        bundle,
        tmp_path / "new",
        seconds=0,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert choice.picked == "fp16" and steps == [(0, 3), (1, 3), (2, 3)]
    opened = Bundle.open(tmp_path / "new")
    assert opened.manifest.model == "student.fp16.onnx" == made.manifest.model
    assert REPORT_NAME in opened.verify()
    report = json.loads(opened.read(REPORT_NAME))
    assert [row["precision"] for row in report["candidates"]] == ["fp32", "fp16", "int8"]
    assert report["machine"]["device"] == "Fake GPU" and report["machine"]["copies"] is True
    assert all(row["label_agreement"] == 1.0 for row in report["candidates"])
    assert "*fp16" in choice.to_table() and "picked fp16" in choice.to_table()
    assert machine.driver.released


def test_original_bundle_is_untouched(machine, bundle, tmp_path):
    before = {path.name: path.read_bytes() for path in bundle.folder.iterdir()}
    choose_precision(bundle, tmp_path / "new", seconds=0)
    assert {path.name: path.read_bytes() for path in bundle.folder.iterdir()} == before


def test_precision_that_answers_wrongly_is_named_and_not_picked(
    machine, bundle, tmp_path, monkeypatch
):
    with_speeds(monkeypatch, fp32=3.0, fp16=2.0, int8=1.0)
    real, calls = choose.run_backend, []

    def run(backend, inputs, manifest):
        calls.append(backend)
        found = real(backend, inputs, manifest)
        if len(calls) == 3:
            found["logits"] = -found["logits"]
        return found

    monkeypatch.setattr(choose, "run_backend", run)
    _, choice = choose_precision(bundle, tmp_path / "new", seconds=0, budget=1.0)
    assert choice.picked == "fp16"
    assert "a logit is off" in choice.candidates[2].problem


def test_precision_that_does_not_build_is_only_a_row(machine, bundle, tmp_path, monkeypatch):
    with_speeds(monkeypatch, fp32=3.0, int8=1.0)
    real, builds = machine._build, []

    def build(*arguments, **options):
        builds.append(1)
        if len(builds) == 2:
            raise BackendError("no tactic for this layer")
        return real(*arguments, **options)

    monkeypatch.setattr(engine_builder, "build_apart", build)
    _, choice = choose_precision(bundle, tmp_path / "new", seconds=0)
    assert choice.picked == "int8" and choice.candidates[1].problem == "no tactic for this layer"


def test_lost_gpu_ends_the_choice_and_writes_nothing(machine, bundle, tmp_path):
    machine.flavor.trt.run_errors.append(("INTERNAL_ERROR", "assertion failed"))
    with pytest.raises(BackendError, match="assertion failed"):
        choose_precision(bundle, tmp_path / "new", seconds=0)
    assert not (tmp_path / "new").exists() and machine.driver.released


def test_uncalibrated_bundle_is_chosen_among_floats(machine, bundle, tmp_path):
    files = {n: bundle.read(n) for n in bundle.manifest.files if "int8" not in n}
    floats = Bundle.create(tmp_path / "floats", tiny_manifest(), files)
    _, choice = choose_precision(floats, tmp_path / "new", seconds=0)
    assert choice.picked in ("fp32", "fp16")
    assert "no student.int8.onnx" in choice.candidates[2].problem


def test_accuracy_is_that_of_the_test_split(machine, bundle, tmp_path):
    manifest, rows = bundle.manifest, []
    for seed in range(12):
        optical, sar = raw_pair(manifest, seed)
        paths = tmp_path / f"{seed}-o.npy", tmp_path / f"{seed}-s.npy"
        np.save(paths[0], optical)
        np.save(paths[1], sar)
        split = "test" if seed < 9 else "train"
        rows.append(pair_row(*paths, CLASSES[0], str(seed), split, None))
    write_index(tmp_path / "index.csv", rows)
    _, choice = choose_precision(
        bundle, tmp_path / "new", seconds=0, index=tmp_path / "index.csv"
    )  # fmt: skip
    found = {candidate.accuracy for candidate in choice.candidates}
    assert len(found) == 1 and found.pop() * 9 == pytest.approx(_right(manifest, 9))


def _right(manifest, count):
    from esccs_edge.pixels.preprocess import preprocess

    right = 0
    for seed in range(count):
        ready = []
        for pixels, spec in zip(
            raw_pair(manifest, seed),
            (manifest.modalities["optical"], manifest.modalities["sar"]),
            strict=True,
        ):
            out = np.empty((1, *pixels.shape), np.float32)
            preprocess([pixels], spec, out)
            ready.append(out)
        logits, _ = expected(manifest, *ready, np.ones((1, 2), np.float32))
        right += int(np.argmax(logits)) == 0
    return right


def test_measured_speed_and_energy_belong_together(machine, bundle):
    backend = trt_backend.TrtBackend(bundle, bundle.manifest, max_batch=4)
    found = measure_speed(backend, bundle.manifest, seconds=0.02, meter=Steady(5.0, 5.0, 9.0))
    backend.close()
    assert 0 < found.p50_ms <= found.p90_ms <= found.p99_ms
    assert found.batch == 4 and found.pairs_per_s > 0
    above_idle = max(0.0, found.watts - found.idle_watts)
    assert found.millijoules_per_pair == pytest.approx(1e3 * above_idle / found.pairs_per_s)


def test_throughput_keeps_two_lanes_busy(machine, bundle):
    backend = trt_backend.TrtBackend(bundle, bundle.manifest, max_batch=4)
    started = []
    real = backend.open_lane

    def open_lane():
        lane = real()
        start, finish = lane.start, lane.finish
        lane.start = lambda batch: (started.append(1), start(batch))
        lane.finish = lambda: (started.append(-1), finish())[1]
        return lane

    backend.open_lane = open_lane
    pairs = measure.random_samples(bundle.manifest, 4)
    assert measure._throughput(backend, pairs, 0) > 0
    depth = np.cumsum(started)
    assert depth.max() == 2 and depth[-1] == 0
    backend.close()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"prefer": "speed"}, "latency, throughput"),
        ({"budget": 1.5}, "from 0 to 1"),
    ],
)
def test_options_out_of_range_are_refused(bundle, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        choose_precision(bundle, tmp_path / "new", **options)


def test_index_is_refused_for_a_task_that_answers_no_single_class(machine, tmp_path):
    toy = toy_bundle(tmp_path / "toy")
    with pytest.raises(InputError, match="toy-mapping answers no single class"):
        choose_precision(toy, tmp_path / "new", index=tmp_path / "index.csv")
    assert not (tmp_path / "new").exists() and not machine.builds


def test_folder_in_use_is_refused(bundle):
    with pytest.raises(InputError, match="in use"):
        choose_precision(bundle, bundle.folder)


def test_choosing_without_a_gpu_says_what_to_do_instead(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "probe_driver", lambda: DriverInfo("", (), "no CUDA driver"))
    with pytest.raises(BackendError, match="no CUDA driver.*on the target"):
        choose_precision(bundle, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_command_line_needs_a_folder_and_hands_the_choice_over(
    machine, bundle, tmp_path, monkeypatch
):
    from click.testing import CliRunner

    from esccs_edge.cli import main

    words = ["build", str(bundle.folder), "--choose"]
    assert CliRunner().invoke(main, words).exit_code == 2
    with_speeds(monkeypatch, fp32=3.0, fp16=1.0, int8=2.0)
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "new"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["picked"] == "fp16"
