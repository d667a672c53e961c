"""A GPU that is lost, or a lane that fails in an unforeseen way: what is still sent, and closed."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from support.tiny import tiny_bundle
from support.trt_machine import Machine, assert_same, awkward_batch, cpu_answer, host_pairs

from esccs_edge import Classifier
from esccs_edge.backends import choice as backend_choice
from esccs_edge.cuda.driver import cuda_error
from esccs_edge.errors import BackendError, CudaError, EsccsError


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


def live(machine, batches=3):
    """Open, run on two lanes (plainly, captured, replayed), close one and go on, close all."""
    backend = machine.open(max_batch=2, graph_batches=(2,))
    try:
        lanes = backend.open_lane(), backend.open_lane()
        for _ in range(batches):
            for lane in lanes:
                lane.start(host_pairs(machine.manifest, 2))
            for lane in lanes:
                lane.finish()
        lanes[0].close()
        lanes[1].answer(host_pairs(machine.manifest, 1))
    finally:
        backend.close()
        backend.close()


@pytest.mark.fault(87)
def test_whatever_call_is_the_first_to_fail_all_closes_and_nothing_more_is_sent(machine):
    live(machine)
    calls = len(machine.driver.log)
    assert calls > 100
    for first in range(calls):
        driver = machine.driver
        driver.log.clear()
        driver.released, driver.calls_to_live, driver.live, driver.depth = False, first, [], 0
        driver.streams.clear()
        try:
            live(machine)
        except EsccsError as error:
            assert "illegal memory access" in str(error)
        # Where the very first failure came while closing, there is nobody to tell it to.
        assert len(driver.log) == first + 1, f"after {driver.log[first]}: {driver.log[first + 1 :]}"
        assert not driver.released and driver.depth == 0
    machine.driver.calls_to_live = None


@pytest.mark.parametrize("call", ["push", "pop"])
def test_a_context_that_cannot_be_made_current_any_more_is_lost_too(machine, monkeypatch, call):
    backend = machine.open()
    lane = backend.open_lane()

    def gone():
        raise cuda_error(call, 709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed")

    machine.driver.log.clear()
    monkeypatch.setattr(machine.driver, call, gone)
    with pytest.raises(CudaError, match="context is destroyed") as caught:
        lane.answer(awkward_batch(machine.manifest))
    assert caught.value.action == "restart"
    sent = len(machine.driver.log)
    with pytest.raises(CudaError, match="earlier push|earlier pop"):
        lane.start(awkward_batch(machine.manifest))
    backend.close()
    assert len(machine.driver.log) == sent


def test_engine_and_contexts_go_before_the_interpreter_takes_them_apart(machine):
    backend = machine.open(graph_batches=(2,))
    lane = backend.open_lane()
    for _ in range(2):
        lane.answer(host_pairs(machine.manifest, 2))
    loaded = backend._loaded
    machine.driver.calls_to_live = 0
    with pytest.raises(CudaError):
        lane.start(host_pairs(machine.manifest, 2))
    backend.close()
    assert loaded.engine is None and lane.contexts._shared is None and not lane.contexts._of_graphs


@pytest.mark.fault(87)
def test_a_classifier_over_a_lost_gpu_gives_the_reason_and_closes(machine, monkeypatch):
    monkeypatch.setattr(backend_choice, "tensorrt_is_usable", lambda: True)
    (pair,) = host_pairs(machine.manifest, 1)
    with Classifier(tiny_bundle(machine.folder / "b"), backend="tensorrt", max_batch=2) as model:
        model.classify(pair.optical, pair.sar)
        machine.driver.calls_to_live = 1
        with pytest.raises(CudaError, match="illegal memory access"):
            model.classify(pair.optical, pair.sar)
        sent = len(machine.driver.log)
        with pytest.raises(CudaError, match="nothing is run on this GPU any more"):
            model.classify(pair.optical, pair.sar)
    assert len(machine.driver.log) == sent


class Odd(Exception):
    """Nothing that this package knows, as a binding raises for a code of a newer driver."""


@pytest.mark.parametrize("kind", [Odd, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("call", ["launch", "copy_to_device", "record_event", "synchronize_event"])
@pytest.mark.parametrize("graph_batches", [(), (5,)])
def test_any_exception_settles_the_lane_before_it_is_used_again(
    machine, monkeypatch, kind, call, graph_batches
):
    backend = machine.open(graph_batches=graph_batches)
    lane = backend.open_lane()
    pairs = awkward_batch(machine.manifest)
    lane.answer(pairs)

    def odd(*_):
        raise kind("950 is not a valid CUresult")

    with monkeypatch.context() as patch:
        patch.setattr(machine.driver, call, odd)
        with pytest.raises(kind):
            lane.start(pairs)
            lane.finish()
    assert [stream.queue for stream in machine.driver.streams if stream.queue] == []
    assert_same(lane.answer(pairs), cpu_answer(machine.folder / "bundle", pairs))
    backend.close()
    assert machine.driver.released


def test_an_interrupt_while_an_error_is_dealt_with_is_made_up_for(machine, monkeypatch):
    backend = machine.open(graph_batches=())
    lane = backend.open_lane()
    pairs = awkward_batch(machine.manifest)
    lane.answer(pairs)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(machine.driver, "launch", interrupted)
        patch.setattr(machine.driver, "synchronize_stream", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lane.start(pairs)
    machine.driver.log.clear()
    lane.start(pairs)
    assert machine.driver.log[0] == "synchronize_stream"
    assert_same(lane.finish(), cpu_answer(machine.folder / "bundle", pairs))
    backend.close()


@pytest.mark.parametrize("number, words", [(700, "illegal access"), (1, "invalid value")])
def test_an_error_that_only_settling_shows_counts(machine, number, words):
    """TensorRT reports a lost GPU as a failed execution, which alone would be tried again."""
    backend = machine.open(graph_batches=())
    lane = backend.open_lane()
    lane.answer(awkward_batch(machine.manifest))
    machine.flavor.trt.run_errors.append(("FAILED_EXECUTION", "cuTensor"))
    before = machine.driver.log.count("synchronize_stream")
    machine.driver.fail = {"synchronize_stream": (before + 1, (number, "CUDA_ERROR_X", words))}
    with pytest.raises(BackendError, match="cuTensor"):
        lane.start(awkward_batch(machine.manifest))
    with pytest.raises(BackendError, match=words) as caught:
        lane.start(awkward_batch(machine.manifest))
    assert caught.value.action == "restart"
    backend.close()
    assert not machine.driver.released


@pytest.mark.parametrize("call", ["free", "destroy_event", "destroy_graph", "free_host"])
def test_one_thing_that_cannot_be_freed_does_not_keep_the_rest(machine, monkeypatch, call):
    backend = machine.open(graph_batches=(2,))
    lane = backend.open_lane()
    for _ in range(2):
        lane.answer(host_pairs(machine.manifest, 2))
    before = machine.driver.log.count(call)
    machine.driver.fail = {call: (before + 1, (1, "CUDA_ERROR_INVALID_VALUE", "invalid value"))}
    monkeypatch.setattr(machine.driver, "release", lambda: None)  # it would miss that one thing
    with pytest.raises(CudaError, match="invalid value"):
        backend.close()
    assert len(machine.driver.live) == 1 and backend._loaded is None


def test_lanes_made_at_once_do_not_change_each_others_way_of_making_contexts(machine):
    """RTX keeps one mutable description for all contexts of an engine."""
    strategies = []

    class Config:
        def set_execution_context_allocation_strategy(self, strategy):
            self.strategy = strategy

    def create(config):
        wanted = config.dynamic_shapes_kernel_specialization_strategy
        for _ in range(50):
            threading.Event().wait(0.0002)
        strategies.append((wanted, config.dynamic_shapes_kernel_specialization_strategy))

    backend = machine.open()
    loaded = backend._loaded
    loaded.config, loaded.engine = Config(), SimpleNamespace(create_execution_context=create)
    machine.flavor.trt.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER=1, LAZY=2)
    threads = [
        threading.Thread(target=loaded.new_context, kwargs={"for_graph": bool(i % 2)})
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(strategies) == 6 and all(wanted == used for wanted, used in strategies)
    backend.close()


def test_lanes_opened_at_once_are_all_closed(machine):
    backend = machine.open()
    opened = []
    threads = [
        threading.Thread(target=lambda: opened.append(backend.open_lane())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    backend.close()
    assert len(opened) == 8 and all(lane.closed for lane in opened)
