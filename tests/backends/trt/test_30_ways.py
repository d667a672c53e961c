"""In which ways an engine is tried, what it is kept under, and which graph runs by itself."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from support.trt_machine import Machine, assert_same, awkward_batch, cpu_answer

from esccs_edge.backends.trt import engine_builder
from esccs_edge.backends.trt.build import BuildOptions, _configure, _network_flags
from esccs_edge.backends.trt.engine_builder import machine_key, ways_to_build
from esccs_edge.backends.trt.library import Flavor
from esccs_edge.errors import BackendError, Remedy


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


def as_flavor(machine, name):
    machine.flavor = Flavor(name, "1.7.1", machine.flavor.trt)


def ways(machine, name, onnx=b"", capability="8.9", trt=None):
    flavor = Flavor(name, "10.3.0", trt or machine.flavor.trt)
    found = ways_to_build(flavor, onnx, machine.manifest, capability)
    return [(way.target, way.typing) for way in found]


def test_rtx_tries_its_default_set_after_this_gpu_and_alone_where_it_is_not_listed(machine):
    assert ways(machine, "rtx") == [("current", "strong"), ("portable", "strong")]
    for unlisted in ("9.0", "8.7", "11.0"):
        assert ways(machine, "rtx", capability=unlisted) == [("portable", "strong")]


def test_only_a_quantized_graph_is_tried_weakly_and_only_where_that_exists(machine):
    plain, weak = ("current", "strong"), ("current", "weak")
    assert ways(machine, "tensorrt", b"..QuantizeLinear..") == [plain, weak]
    assert ways(machine, "tensorrt", b"..Conv..") == [plain]
    since_11 = SimpleNamespace(
        NetworkDefinitionCreationFlag=SimpleNamespace(), BuilderFlag=SimpleNamespace()
    )
    assert ways(machine, "tensorrt", b"QuantizeLinear", trt=since_11) == [plain]
    assert len(ways(machine, "rtx", b"QuantizeLinear", capability="9.0")) == 1


def test_refused_target_is_followed_by_the_portable_one_and_told(machine, monkeypatch, caplog):
    as_flavor(machine, "rtx")
    monkeypatch.setattr(engine_builder, "RTX_TARGETS", {"8.7"})
    machine.unbuildable = [BuildOptions(machine.manifest.batch)]
    with caplog.at_level(logging.WARNING, "esccs_edge.tensorrt"):
        backend = machine.open()
    assert [options.target for options in machine.options] == ["current", "portable"]
    assert backend.describe()["target"] == "portable"
    assert "no engine for current" in caplog.text and "built by target 'portable'" in caplog.text
    pairs = awkward_batch(machine.manifest)
    assert_same(backend.open_lane().answer(pairs), cpu_answer(machine.folder / "bundle", pairs))
    backend.close()
    machine.driver.released = False
    machine.open().close()  # from the cache, under the way that worked
    assert machine.loads == [b"plan 2"] * 2


def test_plan_that_the_gpu_refuses_twice_is_followed_by_the_portable_one(machine, monkeypatch):
    as_flavor(machine, "rtx")
    monkeypatch.setattr(engine_builder, "RTX_TARGETS", {"8.7"})
    machine.refuse = 2
    backend = machine.open()
    assert backend.describe()["target"] == "portable" and machine.builds == 3
    backend.close()


def test_first_reason_counts_where_no_way_works(machine):
    as_flavor(machine, "rtx")
    machine.unbuildable = [BuildOptions(machine.manifest.batch, "portable")]
    with pytest.raises(BackendError, match="no engine for portable"):
        machine.open()
    assert machine.driver.released


def test_weak_typing_is_recorded(machine):
    content = machine.bundle.read("student.onnx") + b"QuantizeLinear"
    machine.bundle = machine.bundle.add({"student.int8.onnx": content}, model="student.int8.onnx")
    machine.unbuildable = [BuildOptions(machine.manifest.batch)]
    backend = machine.open(manifest=machine.bundle.manifest)
    assert (backend.describe()["typing"], backend.describe()["precision"]) == ("weak", "int8")
    backend.close()


class Config:
    """What `_configure` sets on a builder's config."""

    def __init__(self):
        self.flags: set[str] = set()
        self.set_flag, self.clear_flag = self.flags.add, self.flags.discard
        self.set_memory_pool_limit = lambda *_: None


@pytest.mark.parametrize("typing, network, flags", [("strong", 2, set()), ("weak", 0, {"INT8"})])
def test_what_weak_typing_sets(machine, typing, network, flags):
    trt: Any = SimpleNamespace(
        MemoryPoolType=SimpleNamespace(WORKSPACE=0),
        ProfilingVerbosity=SimpleNamespace(DETAILED=0),
        BuilderFlag=SimpleNamespace(TF32="TF32", INT8="INT8", FP16="FP16"),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
    )
    options, config = replace(BuildOptions(machine.manifest.batch), typing=typing), Config()
    assert _network_flags(trt, options) == network
    _configure(Flavor("tensorrt", "10.3.0", trt), config, options)
    assert config.flags == flags


@pytest.mark.fault(60)
@pytest.mark.parametrize("number, name", [(16, "multiprocessors"), (38, "l2_bytes"), (32, "ecc"),
                                          (37, "memory_bus_bits"), (81, ""), (97, "")])  # fmt: skip
def test_engine_of_a_gpu_of_the_same_name_is_not_taken_for_this_ones(machine, number, name):
    machine.open().close()
    machine.driver.released, machine.driver.traits = False, {number: 77}
    backend = machine.open()
    with backend.device.active():
        traits = machine_key(machine.flavor, backend.device)["traits"]
    assert machine.builds == 2 and 77 in traits.values() and traits.get(name, 77) == 77
    backend.close()


@pytest.mark.fault(60)
def test_engine_of_another_power_mode_or_memory_is_built_anew(machine, monkeypatch):
    machine.open().close()
    monkeypatch.setattr(engine_builder, "nvpmodel_mode", lambda: 2)
    machine.driver.released = False
    machine.open().close()
    monkeypatch.setattr(machine.driver, "memory_info", lambda: (1 << 20, 1 << 30))
    machine.driver.released = False
    machine.open().close()
    assert machine.builds == 3


@pytest.mark.parametrize(
    "flavor, files, model, picked",
    [
        ("rtx", {"int8", "fp16"}, "int8", "student.fp16.onnx"),
        ("rtx", {"int8"}, "int8", "student.onnx"),
        ("rtx", {"int8", "fp16", "measured"}, "int8", "student.int8.onnx"),
        ("rtx", {"fp16"}, "fp32", "student.onnx"),
        ("rtx", {"int8", "fp16"}, "fp16", "student.fp16.onnx"),
        ("tensorrt", {"int8", "fp16"}, "int8", "student.int8.onnx"),
    ],
)
def test_int8_runs_on_rtx_only_once_it_was_measured(machine, flavor, files, model, picked):
    as_flavor(machine, flavor)
    names = {"int8": "student.int8.onnx", "fp16": "student.fp16.onnx", "fp32": "student.onnx"}
    content = machine.bundle.read("student.onnx")
    added = {names[name]: content for name in files if name != "measured"}
    if "measured" in files:
        added["choice.json"] = b"{}"
    machine.bundle = machine.bundle.add(added, model=names[model])
    backend = machine.open(manifest=machine.bundle.manifest)
    described = backend.describe()
    assert described["model"] == picked and described["precision_reason"]
    backend.close()
    machine.driver.released = False
    asked = machine.open(manifest=machine.bundle.manifest, precision=model)
    assert asked.describe()["model"] == names[model]
    asked.close()


def test_refusals_that_another_way_cannot_mend_end_the_search(machine, monkeypatch):
    as_flavor(machine, "rtx")
    monkeypatch.setattr(engine_builder, "RTX_TARGETS", {"8.7"})

    calls = []

    def killed(*_, **__):
        calls.append(1)
        raise BackendError("killed", action=Remedy.SMALLER_BATCH)

    monkeypatch.setattr(engine_builder, "build_apart", killed)
    with pytest.raises(BackendError, match="killed"):
        machine.open()
    assert len(calls) == 1
