"""The TensorRT adapter against the real TensorRT for RTX bindings, as far as no GPU is needed."""

from __future__ import annotations

import logging
import subprocess
import sys
import types
from importlib.util import find_spec

import pytest
from support.tiny import tiny_manifest, tiny_onnx

from esccs_edge.backends.trt import library as trt_api
from esccs_edge.backends.trt.build import BuildOptions, build_plan
from esccs_edge.backends.trt.library import (
    ErrorLog,
    Flavor,
    error_log,
    load_engine,
    load_flavor,
    logger_of,
)
from esccs_edge.cuda.probe import probe_driver
from esccs_edge.errors import BackendError, InputError, MissingDependencyError

rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT for RTX is not installed (x86-64 only): pip install esccs-edge[rtx]",
)
no_gpu = pytest.mark.skipif(not probe_driver().problem, reason="this host has a GPU")


@rtx
def test_recorder_and_logger_are_the_librarys_own_kind():
    flavor = load_flavor("rtx")
    assert isinstance(error_log(flavor), flavor.trt.IErrorRecorder)
    assert isinstance(logger_of(flavor), flavor.trt.ILogger)
    assert logger_of(flavor) is logger_of(load_flavor("rtx"))


@rtx
@no_gpu
def test_builders_own_words_stand_in_the_error():
    manifest = tiny_manifest()
    options = BuildOptions(batch=manifest.batch, target="7.5")
    with pytest.raises(BackendError, match="Building the engine failed: .*Turing"):
        build_plan(load_flavor("rtx"), tiny_onnx(manifest), manifest, options)


@rtx
@no_gpu
def test_failing_and_good_builds_in_turn_do_not_crash_the_process():
    """Freeing a network whose parser saw an error recorder crashes RTX 1.7; see `build_plan`."""
    program = (
        "import sys, gc; sys.path.insert(0, sys.argv[1])\n"
        "from support.tiny import tiny_manifest, tiny_onnx\n"
        "from esccs_edge.backends.trt.library import load_flavor\n"
        "from esccs_edge.backends.trt.build import BuildOptions, build_plan\n"
        "from esccs_edge.errors import EsccsError\n"
        "m = tiny_manifest(); f = load_flavor('rtx'); built = 0\n"
        "for target in ('8.6', '7.5', '9.0', '8.6', 'portable'):\n"
        "    for onnx in (tiny_onnx(m), tiny_onnx(m)[:-40], b''):\n"
        "        try:\n"
        "            build_plan(f, onnx, m, BuildOptions(m.batch, target), progress=print)\n"
        "            built += 1\n"
        "        except EsccsError: pass\n"
        "        gc.collect()\n"
        "assert built == 3, built\n"
    )
    from support.host_compiler import ROOT

    command = [sys.executable, "-X", "faulthandler", "-c", program, ROOT / "tests"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr


@rtx
@no_gpu
def test_runtime_is_never_made_without_a_driver():
    with pytest.raises(BackendError, match="no CUDA driver"):
        load_engine(load_flavor("rtx"), b"plan")


@rtx
@no_gpu
def test_rtx_build_asks_for_no_timing_cache():
    manifest = tiny_manifest()
    options = BuildOptions(batch=manifest.batch, target="portable")
    built = build_plan(
        load_flavor("rtx"), tiny_onnx(manifest), manifest, options, timing_cache=b"old"
    )
    assert built.timing_cache is None and len(built.plan) > 10_000


def test_log_levels_follow_the_severity(caplog):
    lines = trt_api.LogLines()
    with caplog.at_level(logging.DEBUG, "esccs_edge.tensorrt"):
        for name in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
            lines.log(types.SimpleNamespace(name=name), "text with 100% sign")
    levels = [record.levelname for record in caplog.records]
    assert levels == ["CRITICAL", "ERROR", "WARNING", "DEBUG", "DEBUG"]


def test_error_log_keeps_and_gives_back():
    log = ErrorLog()
    code = types.SimpleNamespace(name="FAILED_EXECUTION")
    assert log.report_error(code, "first") is False
    assert (log.num_errors(), log.get_num_errors(), log.has_overflowed()) == (1, 1, False)
    assert (log.get_error_code(0), log.get_error_desc(0)) == (code, "first")
    assert log.take() == [("FAILED_EXECUTION", "first")] and log.num_errors() == 0


@pytest.mark.fault(83)
def test_library_that_does_not_load_is_not_called_missing(monkeypatch):
    def broken(name):
        raise ImportError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(trt_api.importlib, "import_module", broken)
    with pytest.raises(BackendError, match="installed but does not load: libnvinfer"):
        load_flavor.__wrapped__("tensorrt")


def test_dependency_missing_inside_the_library_is_not_taken_for_its_absence(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(trt_api.importlib, "import_module", broken)
    with pytest.raises(BackendError, match="numpy"):
        load_flavor.__wrapped__("rtx")


def test_tensorrt_is_preferred_and_rtx_is_the_second_choice(monkeypatch):
    installed = {"rtx"}

    def load(name):
        if name not in installed:
            raise MissingDependencyError("absent")
        return Flavor(name, "1", None)

    monkeypatch.setattr(trt_api, "load_flavor", load)
    assert trt_api.pick_flavor().name == "rtx"
    installed.add("tensorrt")
    assert trt_api.pick_flavor().name == "tensorrt"
    installed.clear()
    with pytest.raises(MissingDependencyError, match="pip install tensorrt-rtx"):
        trt_api.pick_flavor()


def test_unknown_flavor_is_refused():
    with pytest.raises(InputError, match="'trt', expected 'rtx' or 'tensorrt'"):
        load_flavor("trt")
