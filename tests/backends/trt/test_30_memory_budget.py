"""The budget of device memory: what lanes take is counted, and one lane too many is refused."""

from __future__ import annotations

import gc
import threading

import pytest
from support.tiny import tiny_bundle
from support.trt_machine import Machine, assert_same, awkward_batch, cpu_answer

from esccs_edge import Classifier
from esccs_edge.backends import choice as backend_choice
from esccs_edge.backends.trt.memory_budget import VARIABLE, MemoryBudget, limit_of
from esccs_edge.errors import BackendError, CudaError, InputError


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


def size_of_a_lane(machine) -> int:
    backend = machine.open()
    backend.open_lane()
    found = backend.describe()["lane_device_bytes"]
    backend.close()
    machine.driver.released = False
    return found


@pytest.mark.fault(86, 92)
def test_one_lane_too_many_is_refused_and_the_others_work_on(machine):
    lane_bytes = size_of_a_lane(machine)
    backend = machine.open(memory=2 * lane_bytes)
    first, second = backend.open_lane(), backend.open_lane()
    live = len(machine.driver.live)
    with pytest.raises(BackendError, match=f"expected at most {2 * lane_bytes:,}") as caught:
        backend.open_lane()
    assert caught.value.action == "smaller-batch" and "fewer lanes" in caught.value.hint
    assert len(machine.driver.live) == live
    pairs = awkward_batch(machine.manifest)
    for lane in (first, second):
        lane.start(pairs)
        assert_same(lane.finish(), cpu_answer(machine.folder / "bundle", pairs))
    first.close()
    backend.open_lane()  # in its place
    assert backend.describe()["lane_device_bytes"] == 2 * lane_bytes
    backend.close()
    assert machine.driver.released


def test_classifier_that_gets_too_few_lanes_leaves_nothing_on_the_gpu(machine, monkeypatch):
    monkeypatch.setattr(backend_choice, "tensorrt_is_usable", lambda: True)
    bundle = tiny_bundle(machine.folder / "bundle")
    monkeypatch.setenv(VARIABLE, str(int(1.5 * size_of_a_lane(machine))))
    monkeypatch.setenv("ESCCS_CACHE_DIR", str(machine.folder / "engines"))
    try:
        Classifier(bundle, backend="tensorrt", max_batch=8, lanes=2)
    except BackendError as error:
        assert "one more lane" in error.message
    else:
        pytest.fail("two lanes were opened")
    gc.collect()
    assert machine.driver.released and not machine.driver.live
    machine.driver.released = False
    with Classifier(bundle, backend="tensorrt", max_batch=8, lanes=1) as classifier:
        assert classifier.health().ok


@pytest.mark.parametrize("integrated", [False, True])
def test_what_is_counted_is_what_the_driver_gave(monkeypatch, tmp_path, integrated):
    machine = Machine(monkeypatch, tmp_path, integrated=integrated)
    backend = machine.open()
    for _ in range(2):
        backend.open_lane()
        blocks = [block for block in machine.driver.live if hasattr(block, "kind")]
        device = sum(block.size for block in blocks if block.kind != "pinned")
        assert backend.describe()["lane_device_bytes"] == device
    backend.close()


def test_lane_that_failed_for_another_reason_is_counted_no_more(machine):
    backend = machine.open()
    taken = machine.driver.log.count("alloc")
    machine.driver.fail = {"alloc": (taken + 3, (2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"))}
    with pytest.raises(CudaError):
        backend.open_lane()
    assert backend.describe()["lane_device_bytes"] == 0
    backend.close()


def test_contexts_of_a_lane_share_their_memory_and_lanes_do_not(machine):
    backend = machine.open(graph_batches=(1, 5))
    lanes = backend.open_lane(), backend.open_lane()
    for lane in lanes:
        for count in (1, 5, 3, 1, 5):  # one context for all, and one for each graph
            lane.answer(awkward_batch(machine.manifest, count))
    made = machine.flavor.trt.contexts
    assert len(made) == 6  # the first lane's, then the second's
    used = [{context.memory for context in part} for part in (made[:3], made[3:])]
    assert [len(each) for each in used] == [1, 1] and used[0] != used[1]
    backend.close()


@pytest.mark.fault(92)
def test_budget_may_be_a_share_of_what_is_free_or_come_from_the_environment(monkeypatch):
    assert limit_of(None, 1000) is None
    assert (limit_of(0.25, 1000), limit_of(1, 1000), limit_of(4096, 1000)) == (250, 1000, 4096)
    monkeypatch.setenv(VARIABLE, "0.5")
    assert (limit_of(None, 1000), limit_of(0.1, 1000)) == (500, 100)
    monkeypatch.setenv(VARIABLE, "")
    assert limit_of(None, 1000) is None


@pytest.mark.parametrize("text", ["0", "-1", "half", "nan", "inf", "512M"])
def test_budget_that_is_no_positive_number_is_refused(machine, monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(InputError, match=f"'{text}', expected a share up to 1"):
        machine.open()
    assert machine.driver.released


def test_threads_together_take_no_more_than_the_limit():
    budget, refused = MemoryBudget(500), []

    def take():
        for _ in range(100):
            try:
                budget.take(1)
            except BackendError:
                refused.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.used == 500 and len(refused) == 300
