"""The adapter against the recorded API of every TensorRT it serves (``tests/support/surfaces``).

Each file says where it came from; `record_surface` wrote it. Signatures show that our calls would
be taken, not what they do: that needs a GPU.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import REPOSITORY
from support.record_surface import DETECTED, NEEDED, names_of

from esccs_edge.backends.trt import library as trt_api

FOLDER = Path(__file__).parents[2] / "support" / "surfaces"
SURFACES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
FULL = [name for name in SURFACES if "lean" not in name]
#: The lean runtime has no builder, parser or inspector.
BUILDING = {"Builder", "IBuilderConfig", "INetworkDefinition", "OnnxParser", "ParserError",
            "EngineInspector"}  # fmt: skip
ADAPTER = [
    REPOSITORY / "esccs_edge" / "backends" / "trt" / f"{part}.py"
    for part in (
        "library",
        "build",
        "build_apart",
        "engine_builder",
        "backend",
        "lane",
        "context_cache",
        "kernel_cache",
        "layer_times",
    )  # fmt: skip
]

#: Used only beside, or on what comes from, another name that is asked for.
BEHIND = {"num_compute_capabilities", "CURRENT", "SM86", "INVALID",
          "set_runtime_cache", "serialize", "deserialize",
          "set_execution_context_allocation_strategy"}  # fmt: skip
#: Method -> number of arguments that we pass by position.
CALLS = {
    "Builder.create_network": 1,
    "Builder.create_builder_config": 0,
    "Builder.create_optimization_profile": 0,
    "Builder.build_serialized_network": 2,
    "IBuilderConfig.set_memory_pool_limit": 2,
    "IBuilderConfig.clear_flag": 1,
    "IBuilderConfig.set_flag": 1,
    "IBuilderConfig.add_optimization_profile": 1,
    "IBuilderConfig.create_timing_cache": 1,
    "IBuilderConfig.set_timing_cache": 2,
    "IBuilderConfig.set_compute_capability": 2,
    "INetworkDefinition.get_input": 1,
    "INetworkDefinition.get_output": 1,
    "IOptimizationProfile.set_shape": 4,
    "ITimingCache.serialize": 0,
    "OnnxParser.parse": 1,
    "OnnxParser.get_error": 1,
    "ParserError.desc": 0,
    "Runtime.deserialize_cuda_engine": 1,
    "Runtime.get_engine_validity": 1,
    "ICudaEngine.create_execution_context": 1,  # a strategy, or a runtime config that holds it
    "ICudaEngine.create_engine_inspector": 0,
    "IExecutionContext.execute_async_v3": 1,
    "IExecutionContext.set_tensor_address": 2,
    "IExecutionContext.set_input_shape": 2,
    "IExecutionContext.set_aux_streams": 1,
    "IExecutionContext.set_device_memory": 2,
    "IExecutionContext.is_stream_capturable": 1,
    "ICudaEngine.create_runtime_config": 0,
    "IRuntimeConfig.create_runtime_cache": 0,
    "IRuntimeConfig.set_runtime_cache": 1,
    "IRuntimeConfig.set_execution_context_allocation_strategy": 1,
    "IRuntimeCache.serialize": 0,
    "IRuntimeCache.deserialize": 1,
    "EngineInspector.get_engine_information": 1,
    # Called by the library on our classes.
    "ILogger.log": 2,
    "IErrorRecorder.report_error": 2,
    "IErrorRecorder.num_errors": 0,
    "IErrorRecorder.get_error_code": 1,
    "IErrorRecorder.get_error_desc": 1,
    "IErrorRecorder.has_overflowed": 0,
    "IErrorRecorder.clear": 0,
    "IProfiler.report_layer_time": 2,
    "IProgressMonitor.phase_start": 3,
    "IProgressMonitor.step_complete": 2,
    "IProgressMonitor.phase_finish": 1,
}


def takes(signature: str, given: int) -> bool:
    """Return whether one of the overloads can be called with that many arguments after self."""
    for overload in signature.split(" | "):
        inside = re.match(r"\w+\((.*)\) -> ", overload)
        depth, parameters = 0, [""]
        for letter in inside[1]:
            depth += (letter in "[<(") - (letter in "]>)")
            if letter == "," and depth == 0:
                parameters.append("")
            else:
                parameters[-1] += letter
        needed = [p for p in parameters[1:] if "=" not in p]
        if len(needed) <= given <= len(parameters) - 1:
            return True
    return False


def test_all_versions_we_promise_are_recorded_with_their_source():
    assert {"tensorrt-10.3", "tensorrt-10.16", "tensorrt-11.4", "tensorrt-rtx-1.7"} <= set(FULL)
    assert all(surface["version"] in surface["source"] for surface in SURFACES.values())


@pytest.mark.parametrize("surface", SURFACES)
def test_every_name_the_adapter_needs_is_there(surface):
    names = SURFACES[surface]["names"]
    asked = [(k, n) for k, n in names_of(NEEDED) if surface in FULL or k not in BUILDING]
    assert [f"{k}.{n}" for k, n in asked if names[f"{k}.{n}"] is None] == []


@pytest.mark.parametrize("surface", SURFACES)
def test_every_call_fits_its_signature(surface):
    names = SURFACES[surface]["names"]
    present = {call: names[call] for call in CALLS if names[call] is not None}
    assert [c for c, signature in present.items() if not takes(signature, CALLS[c])] == []
    assert surface not in FULL or len(present) >= len(CALLS) - 9


def test_arity_check_can_fail():
    signature = SURFACES["tensorrt-10.3"]["names"]["IOptimizationProfile.set_shape"]
    assert takes(signature, 4) and not takes(signature, 3) and not takes(signature, 5)
    overloads = SURFACES["tensorrt-11.4"]["names"]["ICudaEngine.create_execution_context"]
    assert takes(overloads, 0) and takes(overloads, 1) and not takes(overloads, 2)


def test_names_that_not_all_have_are_detected_and_not_assumed():
    """What is missing somewhere must be in DETECTED, and asked for by hasattr or getattr there."""
    missing = {name for s in FULL for name, found in SURFACES[s]["names"].items() if found is None}
    assert missing <= {f"{kind}.{name}" for kind, name in names_of(DETECTED)}
    guarded = "\n".join(path.read_text() for path in ADAPTER)
    for name in {name.split(".")[1] for name in missing} - BEHIND:
        first = re.search(rf'^.*[."]{name}\b.*$', guarded, re.MULTILINE)[0]
        assert "hasattr" in first or "getattr" in first, name


def test_every_library_name_in_the_adapter_is_among_those_checked():
    """`trt.Class` and `trt.Class.MEMBER` in our source, read by AST."""
    listed = {**{k: "" for k in NEEDED}, **{k: "" for k in DETECTED}}
    members = set(names_of(NEEDED)) | set(names_of(DETECTED))
    used = set()
    for path in ADAPTER:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and _is_library(node.value):
                used.add((node.attr, None))
            inner = getattr(node, "value", None)
            if isinstance(node, ast.Attribute) and isinstance(inner, ast.Attribute):
                if _is_library(inner.value):
                    used.add((inner.attr, node.attr))
    used.discard(("__version__", None))
    assert len(used) > 10
    assert [kind for kind, member in used if kind not in listed] == []
    assert [u for u in used if u[1] is not None and u not in members] == []


def _is_library(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == "trt") or (
        isinstance(node, ast.Attribute) and node.attr == "trt"
    )


def test_errors_we_act_on_are_among_the_names_checked():
    assert set(trt_api._ACTIONS) == set(NEEDED["ErrorCodeTRT"].split())


@pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT for RTX is not installed (x86-64 only): pip install esccs-edge[rtx]",
)
def test_installed_rtx_still_offers_what_was_recorded(tmp_path):
    script = FOLDER.parent / "record_surface.py"
    command = [sys.executable, str(script), "tensorrt_rtx_bindings", "installed", "here"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    found = json.loads(done.stdout)["names"]
    recorded = SURFACES["tensorrt-rtx-1.7"]["names"]
    lost = [name for name in recorded if found[name] is None and recorded[name] is not None]
    assert lost == []
    assert all(takes(found[c], n) for c, n in CALLS.items() if found[c] is not None)
