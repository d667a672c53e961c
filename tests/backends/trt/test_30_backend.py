"""The GPU lane's order of work, on a fake GPU that interleaves streams at random.

The preprocessing kernels are the real source, compiled for the CPU; the engine is tiny's NumPy
twin. `gpu` tests at the end run the same on a real GPU with a real TensorRT.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import gpu_parts
from support.fake_gpu import FakeEvent
from support.gpu_parts import Span
from support.tiny import linear_sar, raw_pair, tiny_bundle
from support.trt_machine import Machine, assert_same, awkward_batch, cpu_answer

from esccs_edge.backends.trt import backend as trt_backend
from esccs_edge.backends.trt import context_cache
from esccs_edge.backends.trt.pixel_kernels import RawLayout
from esccs_edge.contracts.values import PatchPair
from esccs_edge.cuda.probe import probe_driver
from esccs_edge.system.sealed_cache import SealedCache


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_lane_answers_as_the_cpu_backend_in_any_order_of_streams(
    monkeypatch, tmp_path, seed, integrated
):
    machine = Machine(monkeypatch, tmp_path, seed=seed, integrated=integrated)
    backend = machine.open()
    lane = backend.open_lane()
    for count in (5, 1, 8, 5):
        pairs = awkward_batch(machine.manifest, count)
        lane.start(pairs)
        assert_same(lane.finish(), cpu_answer(tmp_path / "bundle", pairs))
    backend.close()
    assert machine.driver.released


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, 8]), min_size=3, max_size=8), st.integers(0, 1000))
def test_graphs_replay_the_same_answers(tmp_path_factory, sizes, seed):
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(patch, tmp_path_factory.mktemp("m"), seed=seed)
        backend = machine.open(graph_batches=(1, 3, 8))
        lane = backend.open_lane()
        for turn, count in enumerate(sizes):
            pairs = [PatchPair(*raw_pair(machine.manifest, turn * 10 + i)) for i in range(count)]
            lane.start(pairs)
            assert_same(lane.finish(), cpu_answer(machine.folder / "bundle", pairs))
        again = [size for size in (1, 3, 8) if sizes.count(size) > 1]
        assert machine.driver.log.count("begin_capture") == len(again)
        backend.close()


def test_start_waits_for_nothing_and_finish_for_one_event_only(machine):
    backend = machine.open()
    lane = backend.open_lane()
    lane.start(awkward_batch(machine.manifest))
    log = machine.driver.log
    assert "synchronize_event" not in log and "synchronize_stream" not in log
    lane.finish()
    assert log.count("synchronize_event") == 1 and "synchronize_stream" not in log
    backend.close()


@pytest.mark.parametrize("by", ["argument", "environment"])
@pytest.mark.parametrize("wait", ["block", "spin"])
def test_way_of_waiting_is_that_of_the_last_event_and_is_described(machine, monkeypatch, wait, by):
    if by == "environment":
        monkeypatch.setenv("ESCCS_GPU_WAIT", wait)
    backend = machine.open(**({"wait": wait} if by == "argument" else {}))
    lane = backend.open_lane()
    assert backend.describe()["wait"] == wait
    assert lane._done.handle.blocking is (wait == "block")
    pairs = awkward_batch(machine.manifest)
    lane.start(pairs)
    assert_same(lane.finish(), cpu_answer(machine.folder / "bundle", pairs))
    backend.close()


def test_each_modality_is_uploaded_and_preprocessed_on_a_stream_of_its_own(machine):
    backend = machine.open(graph_batches=())
    lane = backend.open_lane()
    lane.start(awkward_batch(machine.manifest))
    queues = [[op[0] for op in s.queue] for s in machine.driver.streams if s.queue]
    compute, *uploads = sorted(queues, key=lambda q: q.count("wait"), reverse=True)
    factors = "copy_to_device"  # mean and std, once
    assert (
        uploads
        == [[factors, "wait", "copy_to_device", "fill_zero", "esccs_preprocess_f32", "record"]] * 2
    )
    assert compute == [
        "fill_zero", "record", "wait", "wait", "esccs_availability", "engine", "copy_to_host",
        "record",
    ]  # fmt: skip
    lane.finish()
    backend.close()


def test_two_lanes_share_the_engine_and_nothing_else(machine):
    backend = machine.open()
    first, second = backend.open_lane(), backend.open_lane()
    one, two = awkward_batch(machine.manifest, 3), awkward_batch(machine.manifest, 5)
    first.start(one)
    second.start(two)
    assert_same(second.finish(), cpu_answer(machine.folder / "bundle", two))
    assert_same(first.finish(), cpu_answer(machine.folder / "bundle", one))
    assert machine.builds == 1
    backend.close()


def test_outputs_belong_to_the_caller(machine):
    backend = machine.open()
    lane = backend.open_lane()
    lane.start(awkward_batch(machine.manifest, 2))
    first = lane.finish()
    kept = first.outputs["logits"].copy()
    lane.start(awkward_batch(machine.manifest, 5))
    lane.finish()
    np.testing.assert_array_equal(first.outputs["logits"], kept)
    backend.close()


def test_linear_sar_is_converted_on_the_device(machine):
    manifest = linear_sar(machine.manifest)
    backend = machine.open(manifest=manifest)
    lane = backend.open_lane()
    pairs = [
        PatchPair(p.optical, np.float32(10) ** (p.sar / np.float32(10)))
        for p in (PatchPair(*raw_pair(machine.manifest, i)) for i in range(3))
    ]
    lane.start(pairs)
    assert_same(lane.finish(), cpu_answer(machine.folder / "bundle", pairs, manifest))
    backend.close()


def test_integrated_gpu_copies_nothing(monkeypatch, tmp_path):
    machine = Machine(monkeypatch, tmp_path, integrated=True)
    backend = machine.open()
    lane = backend.open_lane()
    lane.start(awkward_batch(machine.manifest))
    lane.finish()
    assert not {"copy_to_device", "copy_to_host"} & set(machine.driver.log)
    assert backend.describe()["copies"] is False
    backend.close()


def test_discrete_gpu_uploads_only_the_bytes_of_the_batch(machine):
    backend = machine.open()
    lane = backend.open_lane()
    before = len(machine.driver.uploaded)
    lane.answer(awkward_batch(machine.manifest, 1))
    optical, sar = RawLayout(8, 13, 16 * 16), RawLayout(8, 2, 16 * 16)
    assert machine.driver.uploaded[before:] == [
        optical.header_bytes + 13 * 16 * 16 * 2, sar.header_bytes + 2 * 16 * 16 * 4
    ]  # fmt: skip
    backend.close()


def test_a_replay_is_one_launch_and_one_event(machine):
    backend = machine.open(graph_batches=(5,))
    lane = backend.open_lane()
    for _ in range(2):  # plain, then captured
        lane.answer(awkward_batch(machine.manifest))
    before = len(machine.driver.log)
    lane.answer(awkward_batch(machine.manifest))
    assert machine.driver.log[before:] == ["launch_graph", "record_event", "synchronize_event"]
    backend.close()


def pairs_of_three_layouts(manifest):
    optical, sar = raw_pair(manifest, 0)
    return [
        PatchPair(optical, sar),
        PatchPair(optical.astype(np.float32) * np.float32(1e-4), sar),
        PatchPair(None, sar),
    ]


def test_each_layout_has_its_graph_up_to_a_limit(machine, monkeypatch):
    """A graph copies the bytes it was captured with: layouts differ by types and absence."""
    monkeypatch.setattr(context_cache, "_MOST_GRAPHS", 2)
    backend = machine.open(graph_batches=(1,))
    lane = backend.open_lane()
    layouts = pairs_of_three_layouts(machine.manifest)
    for pair in [*layouts, *reversed(layouts), *layouts, *layouts]:
        assert_same(lane.answer([pair]), cpu_answer(machine.folder / "bundle", [pair]))
    assert len(lane.contexts.graphs) == 2
    backend.close()


@pytest.mark.parametrize("integrated", [False, True])
def test_parts_of_a_batch_can_be_timed_and_traced(monkeypatch, tmp_path, integrated):
    """The tool of the GPU benchmarks, run over the fake GPU; its times mean nothing there."""
    machine = Machine(monkeypatch, tmp_path, integrated=integrated)
    backend = machine.open(graph_batches=())
    pairs = awkward_batch(machine.manifest)
    assert set(gpu_parts.parts_ms(backend, pairs, rounds=2)) == {
        "upload optical", "preprocess optical", "upload sar", "preprocess sar", "engine",
        "download",
    }  # fmt: skip
    spans = gpu_parts.trace(backend, pairs)
    assert [(s.stream, s.name) for s in spans] == [
        ("optical", "copy"), ("optical", "preprocess"), ("sar", "copy"), ("sar", "preprocess"),
        ("compute", "engine"),
    ]  # fmt: skip
    assert len(gpu_parts.as_trace_events(spans)) == 5
    assert gpu_parts.bare_loop_s(backend, pairs, rounds=3) > 0
    live = [owner for owner in machine.driver.live if not isinstance(owner, FakeEvent)]
    link = gpu_parts.copy_gb_per_s(backend, 1000, rounds=3)  # in the fake millisecond
    assert link == pytest.approx({"up": 1e-3, "down": 1e-3, "both": 2e-3})
    assert [x for x in machine.driver.live if not isinstance(x, FakeEvent)] == live
    backend.close()
    assert machine.driver.released


def test_marks_stand_before_and_after_each_part_and_leave_the_answer_alone(machine):
    backend = machine.open(graph_batches=(5,))
    lane, marks = backend.open_lane(), []
    lane.marks = lambda part, stream: marks.append((part, stream.number))
    pairs = awkward_batch(machine.manifest)
    for _ in range(3):
        marks.clear()
        assert_same(lane.answer(pairs), cpu_answer(machine.folder / "bundle", pairs))
    parts = [part for part, _ in marks]
    assert parts[::2] == parts[1::2] == [
        "upload optical", "upload sar", "preprocess optical", "preprocess sar", "engine",
        "download",
    ]  # fmt: skip
    streams = dict(marks)
    assert streams["upload sar"] == streams["preprocess sar"] != streams["upload optical"]
    assert streams["engine"] == streams["download"] == lane.compute.number
    assert not lane.contexts.graphs
    lane.marks = None
    for _ in range(2):
        lane.answer(pairs)
    assert len(lane.contexts.graphs) == 1
    backend.close()


def test_overlap_of_a_trace_is_the_time_both_streams_were_busy():
    def spans(*sar):
        optical = [Span("copy", "optical", 0.0, 2.0), Span("preprocess", "optical", 2.0, 3.0)]
        return [*optical, Span("copy", "sar", *sar)]

    assert gpu_parts.overlap_ms(spans(2.5, 4.0)) == pytest.approx(0.5)
    assert gpu_parts.overlap_ms(spans(3.5, 4.0)) == 0


def test_aux_streams_are_our_own(machine):
    backend = machine.open(graph_batches=())
    lane = backend.open_lane()
    lane.start(awkward_batch(machine.manifest, 1))
    lane.finish()
    (context,) = machine.flavor.trt.contexts
    ours = {stream.number for stream in machine.driver.streams}
    busy = {lane.compute.number, *(one.stream.number for one in lane._uploads.values())}
    assert len(context.aux) == 1 and set(context.aux) <= ours - busy
    backend.close()


def test_max_batch_stays_inside_the_engines_profile(machine):
    backend = machine.open(max_batch=1000)
    assert backend.max_batch == 8
    backend.close()


@pytest.mark.gpu
@pytest.mark.skipif(bool(probe_driver().problem), reason=f"no GPU: {probe_driver().problem}")
@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
def test_real_gpu_answers_as_the_cpu_backend(monkeypatch, tmp_path, provider):
    pytest.importorskip({"cuda-python": "cuda.bindings", "pycuda": "pycuda"}[provider])
    monkeypatch.setenv("ESCCS_CUDA", provider)
    bundle = tiny_bundle(tmp_path / "bundle")
    cache = SealedCache(tmp_path / "engines")
    backend = trt_backend.TrtBackend(bundle, bundle.manifest, max_batch=8, cache=cache)
    lanes = [backend.open_lane() for _ in range(2)]
    for count in (5, 5, 5, 1, 8, 1, 8, 8, 5):
        pairs = awkward_batch(bundle.manifest, count)
        for lane in lanes:
            lane.start(pairs)
        for lane in lanes:
            assert_same(lane.finish(), cpu_answer(tmp_path / "bundle", pairs))
    for pair in pairs_of_three_layouts(bundle.manifest) * 4:  # graphs of one size, in turns
        assert_same(lanes[0].answer([pair]), cpu_answer(tmp_path / "bundle", [pair]))
    for lane in lanes:
        lane.close()
    backend.close()
