"""Lanes of the OpenVINO backend: equal to the hand-checked model, however a batch is cut."""

from __future__ import annotations

import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from support import tiny
from support.cpu_parts import FLOAT32_ATOL, expected, pairs_for

from esccs_edge.backends.cpu import lane as cpu_lane
from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.backends.cpu.lane import PART_SIZES, SPARE_SLOTS, parts, shares
from esccs_edge.contracts.values import ABSENT, PatchPair
from esccs_edge.errors import BackendError

MAX_BATCH = 8


@pytest.fixture
def backend(bundle):
    made = CpuBackend(bundle, bundle.manifest, max_batch=MAX_BATCH, precision="fp32")
    yield made
    made.close()


@pytest.fixture
def lane(backend):
    made = backend.open_lane()
    yield made
    made.close()


@pytest.mark.parametrize("count", range(1, MAX_BATCH + 1))
def test_it_equals_the_hand_checked_model_at_every_batch_size(lane, bundle, count):
    pairs = pairs_for(bundle.manifest, count)
    output = lane.answer(pairs)
    logits, gate = expected(bundle.manifest, pairs)
    np.testing.assert_allclose(output.outputs["gate"], gate, atol=1e-6)
    seen = gate.any(axis=1)  # without a valid pixel there is no answer
    np.testing.assert_allclose(output.outputs["logits"][seen], logits[seen], atol=FLOAT32_ATOL)
    assert output.outputs["logits"].dtype == output.outputs["gate"].dtype == np.float32


def test_sizes_may_change_from_batch_to_batch(lane, bundle):
    pairs = [PatchPair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(MAX_BATCH)]
    whole = lane.answer(pairs).outputs["logits"]
    for count in (1, 7, 3, 8, 2):
        np.testing.assert_allclose(
            lane.answer(pairs[-count:]).outputs["logits"], whole[-count:], atol=1e-5
        )


@pytest.mark.fault(28)
def test_a_result_belongs_to_the_caller(lane, bundle):
    pairs = pairs_for(bundle.manifest, 3)
    first = lane.answer(pairs[:2])
    kept = first.outputs["logits"].copy(), first.outputs["gate"].copy()
    lane.answer(pairs[::-1])
    lane.close()
    assert (first.outputs["logits"] == kept[0]).all() and (first.outputs["gate"] == kept[1]).all()


def test_statistics_come_with_the_result(lane, bundle):
    output = lane.answer(pairs_for(bundle.manifest, 4))
    assert output.stats["sar"][1] == ABSENT and output.stats["optical"][2] == ABSENT
    optical = output.stats["optical"]
    assert optical[0].valid == 256 and optical[3].valid == 256 - 3 * 16
    assert output.stats["sar"][3].nonfinite == 13 * 16


class Watched:
    """Stands in for an OpenVINO request; notes what is called of it and fails on demand."""

    def __init__(self, request, failing: str = "") -> None:
        self.request = request
        self.failing = failing
        self.calls = []

    def __getattr__(self, name):
        def call():
            self.calls.append(name)
            getattr(self.request, name)()
            if name == self.failing:
                self.failing = ""
                raise RuntimeError("primitive failed")

        return call


def watch(slot, pairs: int, failing: str = "", *, single: bool = False) -> Watched:
    watched = Watched(slot.request(pairs, single=single), failing)
    slot._requests[pairs, single] = watched
    return watched


@pytest.mark.fault(3, 5)
def test_what_has_no_valid_pixel_needs_no_inference(lane, bundle):
    optical, sar = tiny.raw_pair(bundle.manifest)
    empty = PatchPair(np.zeros_like(optical), np.full_like(sar, np.nan))
    pair = PatchPair(optical, sar)
    request = watch(lane._slots[0], 1, single=True)
    wanted = lane.answer([pair])  # what this row held is gone afterwards
    for nothing in (PatchPair(None, None), empty):
        output = lane.answer([nothing])
        assert not output.outputs["gate"].any() and not output.outputs["logits"].any()
    assert request.calls == ["infer"]
    assert (lane.answer([pair]).outputs["logits"] == wanted.outputs["logits"]).all()
    output = lane.answer([empty] * 3)
    assert not output.outputs["gate"].any() and not output.outputs["logits"].any()


@pytest.mark.parametrize("largest", PART_SIZES)
@pytest.mark.parametrize("cores", [1, 2, 3, 16])
@pytest.mark.parametrize("pairs", [*range(1, 20), 31, 32, 33])
def test_a_batch_is_dealt_out_evenly_in_parts_of_known_sizes(pairs, cores, largest):
    dealt = shares(pairs, cores)
    sizes = {share.stop - share.start for share in dealt}
    assert max(sizes) - min(sizes) <= 1 and len(dealt) == min(pairs, cores)
    cut = [part for share in dealt for part in parts(share, largest)]
    assert [place for part in cut for place in range(part.start, part.stop)] == list(range(pairs))
    known = {size - less for size in PART_SIZES if size <= largest for less in (0, 1)}
    assert {part.stop - part.start for part in cut} <= known - {0}


@pytest.mark.parametrize("cores", [1, 2])
def test_more_parts_than_slots_are_answered_in_order(bundle, monkeypatch, cores):
    monkeypatch.setattr(cpu_lane, "PART_PIXELS", 1)
    backend = CpuBackend(bundle, bundle.manifest, max_batch=17, precision="fp32")
    backend._models.cores = cores
    lane = backend.open_lane()
    pairs = pairs_for(bundle.manifest, 17)
    logits, gate = expected(bundle.manifest, pairs)
    for count in (17, 3, 16):
        output = lane.answer(pairs[:count])
        np.testing.assert_allclose(output.outputs["gate"], gate[:count], atol=1e-6)
        seen = output.outputs["gate"].any(axis=1)
        np.testing.assert_allclose(
            output.outputs["logits"][seen], logits[:count][seen], rtol=0, atol=FLOAT32_ATOL
        )
        assert [one.valid for one in output.stats["optical"]] == [
            one.valid for one in lane.answer(pairs[:count]).stats["optical"]
        ]
    assert len(lane._slots) == cores + SPARE_SLOTS


def test_a_part_that_fails_while_others_are_read_leaves_the_lane_usable(bundle, monkeypatch):
    monkeypatch.setattr(cpu_lane, "PART_PIXELS", 1)
    backend = CpuBackend(bundle, bundle.manifest, max_batch=MAX_BATCH, precision="fp32")
    backend._models.cores = 1
    lane = backend.open_lane()
    pairs = [PatchPair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(MAX_BATCH)]
    wanted = lane.answer(pairs).outputs["logits"]
    watched = watch(lane._slots[1], 1, "wait")
    with pytest.raises(BackendError, match="primitive failed"):
        lane.start(pairs)
    np.testing.assert_allclose(lane.answer(pairs).outputs["logits"], wanted, atol=FLOAT32_ATOL)
    assert not watched.failing and watched.calls[::2] == ["start_async"] * (len(watched.calls) // 2)


def test_lanes_run_at_the_same_time_without_mixing(backend, bundle):
    pairs = [PatchPair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(MAX_BATCH)]
    wanted, _ = expected(bundle.manifest, pairs)
    first, second = backend.open_lane(), backend.open_lane()
    first.start(pairs)
    second.start(pairs[::-1])
    np.testing.assert_allclose(second.finish().outputs["logits"], wanted[::-1], atol=FLOAT32_ATOL)
    np.testing.assert_allclose(first.finish().outputs["logits"], wanted, atol=FLOAT32_ATOL)

    wrong = []

    def work(lane) -> None:
        for count in list(range(1, MAX_BATCH + 1)) * 5:
            if not np.allclose(
                lane.answer(pairs[:count]).outputs["logits"], wanted[:count], atol=FLOAT32_ATOL
            ):
                wrong.append(count)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("count", "slot", "failing"),
    [(1, 0, "infer"), (4, 0, "start_async"), (4, 0, "wait"), (4, 1, "wait")],
)
def test_a_failing_request_is_a_backend_error_and_the_lane_goes_on(bundle, count, slot, failing):
    backend = CpuBackend(bundle, bundle.manifest, max_batch=MAX_BATCH, threads=2, precision="fp32")
    backend._models.cores = 2  # whatever this host has
    lane = backend.open_lane()
    pairs = [PatchPair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(count)]
    wanted = expected(bundle.manifest, pairs)[0]
    np.testing.assert_allclose(lane.answer(pairs).outputs["logits"], wanted, atol=FLOAT32_ATOL)
    watched = watch(lane._slots[slot], max(count // 2, 1), failing, single=count == 1)
    with pytest.raises(BackendError, match="primitive failed"):
        lane.answer(pairs)
    np.testing.assert_allclose(lane.answer(pairs).outputs["logits"], wanted, atol=FLOAT32_ATOL)
    assert not watched.failing
    if count > 1:
        assert watched.calls == ["start_async", "wait"] * 2  # never started while it runs


def test_buffers_outlive_requests_that_an_interrupt_left_running(backend, bundle):
    """Python may raise KeyboardInterrupt right after a native call returned."""
    lane = backend.open_lane()
    batch = [PatchPair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(MAX_BATCH)]
    part = next(parts(shares(MAX_BATCH, backend._models.cores)[0], MAX_BATCH))
    request = watch(lane._slots[0], part.stop)
    start_async = request.request.start_async

    def interrupted():
        start_async()
        raise KeyboardInterrupt

    request.request = SimpleNamespace(start_async=interrupted, wait=request.request.wait)
    with pytest.raises(KeyboardInterrupt):
        lane.answer(batch)
    lane.close()
    assert request.calls == ["start_async", "wait"]


def test_single_pairs_of_many_threads_run_one_at_a_time(backend, bundle):
    pairs = [PatchPair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(4)]
    wanted, _ = expected(bundle.manifest, pairs)
    lanes = [backend.open_lane() for _ in pairs]
    running, most = [], []

    def counted(infer):
        running.append(1)
        most.append(len(running))
        infer()
        running.pop()

    for lane in lanes:
        request = watch(lane._slots[0], 1, single=True)
        request.request = SimpleNamespace(infer=partial(counted, request.request.infer))
    wrong = []

    def work(lane, pair, logits) -> None:
        for _ in range(20):
            if not np.allclose(lane.answer([pair]).outputs["logits"], logits, atol=FLOAT32_ATOL):
                wrong.append(pair)

    threads = [
        threading.Thread(target=work, args=(lane, pair, logits))
        for lane, pair, logits in zip(lanes, pairs, wanted, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(most) == 80 and max(most) == 1


def test_a_lane_may_be_closed_at_any_time_and_twice(backend, bundle):
    lane = backend.open_lane()
    lane.start(pairs_for(bundle.manifest, 3))
    lane.close()
    lane.close()
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.open_lane()
