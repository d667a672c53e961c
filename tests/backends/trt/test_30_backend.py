"""The GPU lane's order of work, on a fake GPU that interleaves streams at random.

The preprocessing kernels are the real source, compiled for the CPU; the engine is tiny's NumPy
twin. `gpu` tests at the end run the same on a real GPU with a real TensorRT.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.onnx_answer import onnx_answer
from support.real_gpu import ENGINES, needs_gpu, running_or_skipped, zero_copy
from support.tiny import linear_sar, raw_pair, tiny_bundle
from support.trt_machine import Machine, assert_same, awkward_batch, cpu_answer

from esccs_edge.backends.trt import backend as trt_backend
from esccs_edge.backends.trt import pixel_kernels
from esccs_edge.backends.trt.pixel_kernels import STATS, RawLayout, aligned
from esccs_edge.contracts.values import PatchPair
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


@settings(max_examples=25)
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
        run_as = [3 if size == 2 else size for size in sizes]
        again = [size for size in (1, 3, 8) if run_as.count(size) > 1]
        assert machine.driver.log.count("begin_capture") == len(again)
        backend.close()


@pytest.mark.parametrize("integrated", [False, True])
def test_a_batch_is_padded_with_absent_samples_to_one_that_has_a_graph(
    monkeypatch, tmp_path, integrated
):
    machine = Machine(monkeypatch, tmp_path, integrated=integrated)
    backend = machine.open()
    lane = backend.open_lane()
    assert [lane.contexts.rows_of(n) for n in range(1, 9)] == [1, 2, 4, 4, 8, 8, 8, 8]
    for count in (8, 5, 7, 6, 8):  # longer ones before, whose rows are left behind
        pairs = awkward_batch(machine.manifest, count)
        found = lane.answer(pairs)
        assert len(found.outputs["logits"]) == len(found.stats["sar"]) == count
        assert_same(found, cpu_answer(tmp_path / "bundle", pairs))
    assert {filled.rows for filled in lane.contexts.graphs} == {8}
    backend.close()


def test_a_batch_is_not_padded_to_twice_its_size_or_more(machine):
    backend = machine.open(graph_batches=(3, 8))
    lane = backend.open_lane()
    assert [lane.contexts.rows_of(n) for n in range(1, 9)] == [1, 3, 3, 4, 8, 8, 8, 8]
    backend.close()


def test_each_batch_size_gives_the_same_answers_with_and_without_its_graph(machine):
    """A padded batch is padded also while it is enqueued plainly: the engine sees one shape."""
    backend = machine.open()
    lane = backend.open_lane()
    for _ in range(3):
        lane.answer(awkward_batch(machine.manifest, 5))
    shapes = {context.shapes["optical"][0] for context in machine.flavor.trt.contexts}
    assert shapes == {8}
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


def test_all_modalities_are_one_copy_and_one_kernel_on_the_lanes_stream(machine):
    backend = machine.open(graph_batches=())
    lane = backend.open_lane()
    for cleared in (["fill_zero"], []):  # the counters, once
        lane.start(awkward_batch(machine.manifest))
        (queue,) = [[op[0] for op in s.queue] for s in machine.driver.streams if s.queue]
        assert queue == [
            *cleared, "copy_to_device", "esccs_preprocess_f32", "engine", "copy_to_host", "record"
        ]  # fmt: skip
        lane.finish()
    backend.close()


def test_results_are_copied_for_the_rows_of_the_batch(machine, monkeypatch):
    backend = machine.open(max_batch=8)
    lane, copied, copy = backend.open_lane(), [], machine.driver.copy_to_host

    def noted(target, source, size, stream):
        copied.append(size)
        copy(target, source, size, stream)

    monkeypatch.setattr(machine.driver, "copy_to_host", noted)
    for count in (1, 8):
        lane.answer(awkward_batch(machine.manifest, count))
    kinds = [np.dtype((t.dtype, t.row)) for t in machine.manifest.returned.values()]
    sizes = [kind.itemsize for kind in (*kinds, STATS, STATS)]
    assert copied == [sum(aligned(count * size) for size in sizes) for count in (1, 8)]
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
    layout = RawLayout(8, (13, 2), 16 * 16)
    pixels = 13 * 16 * 16 * 2 + 2 * 16 * 16 * 4
    assert machine.driver.uploaded[before:] == [layout.header_bytes + pixels]
    backend.close()


def test_a_replay_is_one_copy_one_launch_and_one_event(machine):
    backend = machine.open(graph_batches=(5,))
    lane = backend.open_lane()
    for _ in range(2):  # plain, then captured
        lane.answer(awkward_batch(machine.manifest))
    before = len(machine.driver.log)
    lane.answer(awkward_batch(machine.manifest))
    assert machine.driver.log[before:] == [
        "copy_to_device", "launch_graph", "record_event", "synchronize_event"
    ]  # fmt: skip
    backend.close()


def pairs_of_three_layouts(manifest):
    optical, sar = raw_pair(manifest, 0)
    return [
        PatchPair(optical, sar),
        PatchPair(optical.astype(np.float32) * np.float32(1e-4), sar),
        PatchPair(None, sar),
    ]


def test_any_mixture_of_types_and_absence_has_a_graph(machine):
    """The copy is no part of it, so that only the size and the width of the pixels tell."""
    backend = machine.open(graph_batches=(1,))
    lane = backend.open_lane()
    layouts = pairs_of_three_layouts(machine.manifest)
    layouts.append(PatchPair(layouts[0].optical, None))
    for _ in range(2):
        for pair in [*layouts, *reversed(layouts)]:
            assert_same(lane.answer([pair]), cpu_answer(machine.folder / "bundle", [pair]))
    before = machine.driver.log.count("launch")
    for pair in layouts:
        assert_same(lane.answer([pair]), cpu_answer(machine.folder / "bundle", [pair]))
    assert machine.driver.log.count("launch") == before
    # These patches are so small that one block takes them of any type.
    assert len(lane.contexts.graphs) == 1
    backend.close()


def test_probe_gets_each_part_and_may_repeat_it(machine):
    """What the GPU benchmarks time; however often a part is enqueued, the answer is the same."""
    backend = machine.open(graph_batches=(5,))
    lane, probed = backend.open_lane(), []
    pairs = awkward_batch(machine.manifest)

    def probe(part, enqueue, stream):
        probed.append((part, stream.number))
        for _ in range(3):
            enqueue()

    lane.probe = probe
    for _ in range(3):
        probed.clear()
        assert_same(lane.answer(pairs), cpu_answer(machine.folder / "bundle", pairs))
    number = lane.compute.number
    assert probed == [(part, number) for part in ("upload", "preprocess", "engine", "download")]
    assert not lane.contexts.graphs
    lane.probe = None
    for _ in range(2):
        lane.answer(pairs)
    assert len(lane.contexts.graphs) == 1
    backend.close()


def test_aux_streams_are_our_own(machine):
    backend = machine.open(graph_batches=())
    lane = backend.open_lane()
    lane.start(awkward_batch(machine.manifest, 1))
    lane.finish()
    (context,) = machine.flavor.trt.contexts
    ours = {stream.number for stream in machine.driver.streams}
    assert len(context.aux) == 1 and set(context.aux) <= ours - {lane.compute.number}
    backend.close()


def test_max_batch_stays_inside_the_engines_profile(machine):
    backend = machine.open(max_batch=1000)
    assert backend.max_batch == 8
    backend.close()


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_real_gpu_answers_as_the_onnx_file(tmp_path, engine, mapped):
    bundle = tiny_bundle(tmp_path / "bundle")
    with running_or_skipped(engine), zero_copy() if mapped else nullcontext():
        cache = SealedCache(tmp_path / "engines")
        backend = trt_backend.TrtBackend(bundle, bundle.manifest, max_batch=8, cache=cache)
        lanes = [backend.open_lane() for _ in range(2)]
        for count in (5, 5, 5, 1, 8, 1, 8, 8, 5):
            pairs = awkward_batch(bundle.manifest, count)
            for lane in lanes:
                lane.start(pairs)
            for lane in lanes:
                assert_same(lane.finish(), onnx_answer(bundle, pairs))
        for pair in pairs_of_three_layouts(bundle.manifest) * 4:  # graphs of one size, in turns
            assert_same(lanes[0].answer([pair]), onnx_answer(bundle, [pair]))
        backend.close()


def test_grid_follows_the_widest_values_of_the_batch(machine, monkeypatch):
    """A thread takes eight digital numbers but four floats; else half a grid has nothing to do."""
    monkeypatch.setattr(pixel_kernels, "_PIXELS_PER_THREAD", 1)  # so that these patches tell
    backend, grids = machine.open(graph_batches=()), []
    lane, launch = backend.open_lane(), machine.driver.launch

    def noted(function, shape, stream, arguments):
        grids.append(shape.grid)
        launch(function, shape, stream, arguments)

    monkeypatch.setattr(machine.driver, "launch", noted)
    optical, _ = raw_pair(machine.manifest, 0)
    floats = (optical * 1e-4).astype(np.float32)
    for images in ([optical], [floats], [optical, floats], [optical, optical]):
        grids.clear()
        lane.answer([PatchPair(image, None) for image in images])
        ((tiles, batch),) = grids
        narrow = all(image.dtype.itemsize < 4 for image in images)
        of_sar = -(-optical[0].size // (128 * 2))  # nothing there to be wide
        assert tiles == -(-optical[0].size // (128 * (2 if narrow else 1))) + of_sar
        assert batch == len(images)
    backend.close()
