"""What goes wrong in a GPU lane: what is raised, what may help, and that nothing leaks."""

from __future__ import annotations

import logging

import pytest
from support.tiny import tiny_bundle
from support.trt_machine import Machine, assert_same, awkward_batch, cpu_answer

from esccs_edge.backends.trt import backend as trt_backend
from esccs_edge.cuda.probe import probe_driver
from esccs_edge.errors import BackendError, ClosedError, CudaError, InputError


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


def test_unknown_way_of_waiting_is_refused_before_the_gpu_is_touched(machine, monkeypatch):
    monkeypatch.setenv("ESCCS_GPU_WAIT", "yield")
    with pytest.raises(InputError, match="'yield', expected 'block' or 'spin'"):
        machine.open()
    assert machine.driver.log == [] and not machine.driver.released
    backend = machine.open(wait="block")  # the argument counts
    backend.close()


@pytest.mark.parametrize(
    "code, action",
    [
        ("FAILED_EXECUTION", "retry"),
        ("FAILED_COMPUTATION", "retry"),
        ("FAILED_ALLOCATION", "smaller-batch"),
        ("UNSUPPORTED_STATE", "rebuild"),
        ("INVALID_ARGUMENT", ""),
    ],
)
def test_error_of_a_run_says_what_may_help_and_the_lane_can_be_used_again(machine, code, action):
    backend = machine.open()
    lane = backend.open_lane()
    machine.flavor.trt.run_errors.append((code, "some kernel"))
    with pytest.raises(BackendError, match="some kernel") as caught:
        lane.start(awkward_batch(machine.manifest))
    assert caught.value.action == action
    pairs = awkward_batch(machine.manifest)
    lane.start(pairs)
    assert_same(lane.finish(), cpu_answer(machine.folder / "bundle", pairs))
    backend.close()


@pytest.mark.fault(87)
def test_after_an_internal_error_no_lane_runs_any_more(machine):
    backend = machine.open()
    lanes = backend.open_lane(), backend.open_lane()
    machine.flavor.trt.run_errors.append(("INTERNAL_ERROR", "assertion failed"))
    with pytest.raises(BackendError, match="assertion failed"):
        lanes[0].start(awkward_batch(machine.manifest))
    runs = machine.flavor.trt.calls.count("execute_async_v3")
    for lane in lanes:
        with pytest.raises(BackendError, match="earlier .*assertion failed") as caught:
            lane.start(awkward_batch(machine.manifest))
        assert caught.value.action == "restart"
    assert machine.flavor.trt.calls.count("execute_async_v3") == runs
    backend.close()
    assert machine.driver.released


@pytest.mark.parametrize("call", ["copy_to_device", "launch", "synchronize_event", "record_event"])
@pytest.mark.parametrize("number, action", [(2, "smaller-batch"), (700, "restart"), (1, "")])
def test_cuda_error_in_a_batch_reaches_the_caller(monkeypatch, tmp_path, call, number, action):
    machine = Machine(monkeypatch, tmp_path)
    backend = machine.open()
    lane = backend.open_lane()
    before = machine.driver.log.count(call)
    machine.driver.fail = {call: (before + 1, (number, "CUDA_ERROR_X", "it broke"))}
    with pytest.raises(CudaError, match="CUDA_ERROR_X.*it broke") as caught:
        lane.start(awkward_batch(machine.manifest))
        lane.finish()
    assert caught.value.action == action
    backend.close()
    assert machine.driver.released is (action != "restart")  # a lost one is told nothing more


@pytest.mark.parametrize("call", ["create_stream", "alloc", "alloc_host", "create_event"])
def test_lane_that_cannot_be_opened_leaks_nothing(machine, call):
    backend = machine.open()
    for failing in range(1, 40):
        machine.driver.log.clear()
        machine.driver.fail = {call: (failing, (2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"))}
        try:
            lane = backend.open_lane()
        except CudaError as error:
            assert error.action == "smaller-batch"
        else:
            lane.close()
            break
    assert failing > 2
    machine.driver.fail = {}
    backend.close()
    assert machine.driver.released and not machine.driver.live


@pytest.mark.fault(86)
def test_no_memory_for_a_context_suggests_a_smaller_batch(machine):
    backend = machine.open()
    machine.flavor.trt.no_context = True
    lane = backend.open_lane()
    with pytest.raises(BackendError, match="execution context") as caught:
        lane.start(awkward_batch(machine.manifest))
    assert caught.value.action == "smaller-batch"
    backend.close()


def test_capture_that_fails_says_so_once_and_runs_plainly(machine, caplog):
    backend = machine.open(graph_batches=(5,))
    lane = backend.open_lane()
    machine.driver.fail = {"end_capture": (1, (900, "CAPTURE_UNSUPPORTED", "not while capturing"))}
    with caplog.at_level(logging.WARNING, "esccs_edge.tensorrt"):
        for _ in range(4):
            pairs = awkward_batch(machine.manifest)
            lane.start(pairs)
            assert_same(lane.finish(), cpu_answer(machine.folder / "bundle", pairs))
    assert [r.getMessage().startswith("No CUDA graph") for r in caplog.records] == [True]
    backend.close()


def test_provider_without_graphs_runs_plainly_unless_asked(monkeypatch, tmp_path):
    machine = Machine(monkeypatch, tmp_path, has_graphs=False)
    backend = machine.open()
    assert backend.describe()["graph_batches"] == []
    backend.close()
    machine.driver.released = False
    with pytest.raises(BackendError, match="CUDA graphs were asked for"):
        machine.open(graph_batches=(1,))


def test_wrong_use_of_a_lane_is_refused(machine):
    backend = machine.open()
    lane = backend.open_lane()
    with pytest.raises(BackendError, match="no batch was started"):
        lane.finish()
    with pytest.raises(BackendError, match="9 samples"):
        lane.start(awkward_batch(machine.manifest, 9))
    lane.start(awkward_batch(machine.manifest, 2))
    with pytest.raises(BackendError, match="2 under way"):
        lane.start(awkward_batch(machine.manifest, 2))
    lane.close()
    lane.close()
    with pytest.raises(ClosedError):
        lane.start(awkward_batch(machine.manifest, 2))
    backend.close()
    backend.close()
    with pytest.raises(ClosedError):
        backend.open_lane()


def test_close_while_a_batch_is_in_flight_frees_everything(machine):
    backend = machine.open()
    backend.open_lane().start(awkward_batch(machine.manifest))
    backend.close()
    assert machine.driver.released and not machine.driver.live


def test_no_gpu_is_said_before_any_library_is_loaded(tmp_path):
    if not probe_driver().problem:
        pytest.skip("this host has a GPU")
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    bundle = tiny_bundle(tmp_path / "bundle")
    with pytest.raises(BackendError, match="no GPU can be used"):
        trt_backend.TrtBackend(bundle, bundle.manifest, max_batch=4, flavor="rtx")
