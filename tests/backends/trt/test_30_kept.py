"""What the TensorRT backend keeps for the next start: engines, and the kernels of RTX."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support.trt_machine import Machine, awkward_batch

from esccs_edge.errors import BackendError
from esccs_edge.runtime.model import ModelRuntime
from esccs_edge.system.sealed_cache import SealedCache


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


def test_engine_is_built_once_and_then_comes_from_the_cache(machine):
    machine.open().close()
    machine.driver.released = False
    machine.open().close()
    assert machine.builds == 1 and machine.loads == [b"plan 1", b"plan 1"]


@pytest.mark.fault(60)
def test_engine_that_this_gpu_refuses_is_built_again_once(machine):
    machine.refuse = 1
    machine.open().close()
    assert machine.builds == 2 and machine.loads == [b"plan 1", b"plan 2"]


def test_engine_refused_twice_is_an_error_and_everything_is_freed(machine):
    machine.refuse = 2
    with pytest.raises(BackendError, match="compute 8.6"):
        machine.open()
    assert machine.driver.released


class Kernels:
    """What TensorRT for RTX compiles at the first run; refuses what another one made."""

    def __init__(self):
        self.content = b""

    def deserialize(self, content):
        if not content.startswith(b"rtx 1.7"):
            return False
        self.content = content
        return True

    def serialize(self):
        return self.content or b"rtx 1.7, compiled"


class RuntimeConfig:
    def __init__(self):
        self.made, self.used = [], None

    def create_runtime_cache(self):
        self.made.append(Kernels())
        return self.made[-1]

    def set_runtime_cache(self, kernels):
        self.used = kernels
        return True

    def set_execution_context_allocation_strategy(self, strategy):
        self.strategy = strategy


@pytest.fixture
def rtx_machine(machine):
    """The engine of an RTX library, which has a runtime config with a cache of kernels."""
    machine.runs = []

    def create_runtime_config():
        machine.runs.append(RuntimeConfig())
        return machine.runs[-1]

    machine.flavor.trt.engine.create_runtime_config = create_runtime_config
    return machine


def run_once(machine):
    machine.driver.released = False
    backend = machine.open(graph_batches=())
    lane = backend.open_lane()
    lane.start(awkward_batch(machine.manifest))
    lane.finish()
    backend.close()


def test_kernels_compiled_at_the_first_run_are_there_at_the_next(rtx_machine):
    run_once(rtx_machine)
    run_once(rtx_machine)
    first, second = rtx_machine.runs
    assert rtx_machine.flavor.trt.configs == [first, second]
    assert first.used.content == b"" and second.used.content == b"rtx 1.7, compiled"


def test_kernels_are_kept_after_a_warmup_already(rtx_machine, monkeypatch):
    """A station that loses its power closes nothing."""
    stored = []
    backend = rtx_machine.open(graph_batches=())
    monkeypatch.setattr(SealedCache, "store", lambda _, key, content: stored.append(content))
    with ModelRuntime(backend, rtx_machine.manifest, bundle={}) as model:
        assert stored == []
        model.warmup()
        assert stored == [b"rtx 1.7, compiled"]
    assert len(stored) == 1  # nothing was compiled since


def test_kernels_that_the_library_refuses_are_replaced(rtx_machine, monkeypatch):
    monkeypatch.setattr(Kernels, "serialize", lambda self: b"rtx 1.6")
    run_once(rtx_machine)
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        again: Any = Machine(patch, rtx_machine.folder)
        again.runs = rtx_machine.runs
        again.flavor.trt.engine.create_runtime_config = (
            rtx_machine.flavor.trt.engine.create_runtime_config
        )
        run_once(again)
        run_once(again)
    assert [run.used.content for run in rtx_machine.runs] == [b"", b"", b"rtx 1.7, compiled"]


def test_kernels_of_a_graph_are_compiled_at_once_and_others_in_the_background(rtx_machine):
    trt = rtx_machine.flavor.trt
    trt.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager", LAZY="lazy")
    asked, create = [], trt.engine.create_execution_context

    def noted(config):
        asked.append(config.dynamic_shapes_kernel_specialization_strategy)
        return create(config)

    trt.engine.create_execution_context = noted
    backend = rtx_machine.open(graph_batches=(5,))
    lane = backend.open_lane()
    for _ in range(3):
        lane.answer(awkward_batch(rtx_machine.manifest))
    backend.close()
    assert asked == ["lazy", "eager"]


def test_library_without_such_a_cache_makes_contexts_its_own_way(machine):
    class Plain:
        pass

    machine.flavor.trt.engine.create_runtime_config = Plain  # as on TensorRT 10.16
    run_once(machine)
    assert machine.flavor.trt.configs == [None]
