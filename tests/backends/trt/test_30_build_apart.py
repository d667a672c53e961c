"""Engines built in a process of their own, by the real builder of TensorRT for RTX."""

from __future__ import annotations

import os
import sys

import pytest
from support.tiny import tiny_manifest, tiny_onnx

from esccs_edge.backends.trt import build_apart as apart
from esccs_edge.backends.trt.build import BuildOptions, BuiltPlan
from esccs_edge.backends.trt.library import Flavor, load_flavor
from esccs_edge.errors import ArtifactError, BackendError, EsccsError, InputError

MANIFEST = tiny_manifest()


@pytest.fixture
def rtx():
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    return load_flavor("rtx")


def build(flavor, onnx=None, target="portable", **options):
    content = tiny_onnx(MANIFEST) if onnx is None else onnx
    how = BuildOptions(MANIFEST.batch, target)
    return apart.build_apart(flavor, content, MANIFEST, how, **options)


def test_child_builds_the_engine_and_tells_its_phases(rtx, monkeypatch):
    monkeypatch.setattr(rtx.trt, "Builder", lambda *_: pytest.fail("built in this process"))
    phases = []
    built = build(rtx, progress=lambda *step: phases.append(step))
    assert isinstance(built, BuiltPlan) and len(built.plan) > 1000 and "LayerType" in built.layers
    assert phases and all(0 <= done <= steps for _, done, steps in phases)


def test_errors_of_the_child_are_raised_here_as_they_are(rtx):
    with pytest.raises(InputError, match="RTX target is '1.0'"):
        build(rtx, target="1.0")
    with pytest.raises(ArtifactError, match="not a plain ONNX model"):
        build(rtx, onnx=b"no model")


@pytest.mark.fault(66)
def test_callback_that_raises_ends_the_child(rtx):
    def cancel(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(rtx, progress=cancel)
    with pytest.raises(ChildProcessError):  # it was waited for
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.fault(66)
@pytest.mark.parametrize(
    "serve, words, action",
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal 9", "smaller-batch"),
        ("raise SystemExit(3)", "status 3", ""),
        ("import sys; sys.stdin.buffer.read(); print('no JSON')", "status 0", ""),
    ],
)
def test_child_that_ends_without_an_answer(monkeypatch, serve, words, action):
    monkeypatch.setattr(apart, "_SERVE", serve)
    with pytest.raises(BackendError, match=words) as caught:
        build(Flavor("rtx", "1.7.1", None), b"x" * (1 << 20))
    assert caught.value.action == action and caught.value.hint


def test_without_another_python_it_is_built_here(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setattr(apart, "build_plan", lambda *_, **__: BuiltPlan(b"here", None))
    assert build(Flavor("rtx", "1.7.1", None), b"").plan == b"here"


def test_what_is_no_error_of_ours_ends_the_child_with_a_traceback(rtx, monkeypatch, capfd):
    broken = "from esccs_edge.backends.trt import build_apart as a; a.build_plan = None; a.serve()"
    monkeypatch.setattr(apart, "_SERVE", broken)
    with pytest.raises(EsccsError, match="status 1"):
        build(rtx)
    assert "Traceback" in capfd.readouterr().err
