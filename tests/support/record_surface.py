"""Write down what a TensorRT Python module offers of the names that our adapter uses.

``python record_surface.py MODULE VERSION "where it came from"`` prints one of the files in
``tests/support/surfaces``. It imports the module and looks; it creates nothing, since a runtime
made on a host without a driver ends the process. Run it in a process of its own.

The bindings of the full TensorRT (``tensorrt-cu12-bindings``, about 1 MB) load without its
libraries of some GB when empty stand-ins for the nine functions they link to are on the path.
"""

from __future__ import annotations

import importlib
import json
import re
import sys

#: What the runtime and the builder use on every version.
NEEDED = {
    "Builder": "create_network create_builder_config create_optimization_profile "
    "build_serialized_network error_recorder",
    "IBuilderConfig": "set_memory_pool_limit max_aux_streams profiling_verbosity clear_flag "
    "set_flag add_optimization_profile progress_monitor create_timing_cache set_timing_cache",
    "INetworkDefinition": "num_inputs get_input num_outputs get_output",
    "IOptimizationProfile": "set_shape",
    "ITimingCache": "serialize",
    "OnnxParser": "parse num_errors get_error",
    "ParserError": "desc",
    "Runtime": "deserialize_cuda_engine error_recorder",
    "ICudaEngine": "create_execution_context create_engine_inspector num_aux_streams "
    "device_memory_size_v2",
    "IExecutionContext": "execute_async_v3 set_tensor_address set_input_shape set_aux_streams "
    "set_device_memory error_recorder profiler enqueue_emits_profile",
    "IProfiler": "report_layer_time",
    "ExecutionContextAllocationStrategy": "USER_MANAGED",
    "EngineInspector": "get_engine_information",
    "ILogger": "log",
    "IErrorRecorder": "report_error num_errors get_error_code get_error_desc has_overflowed clear",
    "IProgressMonitor": "phase_start step_complete phase_finish",
    "MemoryPoolType": "WORKSPACE",
    "ProfilingVerbosity": "DETAILED",
    "BuilderFlag": "TF32",
    "LayerInformationFormat": "JSON",
    "ErrorCodeTRT": "INTERNAL_ERROR FAILED_EXECUTION FAILED_COMPUTATION FAILED_ALLOCATION "
    "UNSUPPORTED_STATE",
}
#: What it uses only where ``hasattr`` (or ``getattr`` with a default) finds it.
DETECTED = {
    "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
    "BuilderFlag": "REQUIRE_USER_ALLOCATION INT8",
    "IBuilderConfig": "set_compute_capability num_compute_capabilities",
    "ComputeCapability": "CURRENT SM86",
    "Runtime": "get_engine_validity",
    "EngineValidity": "INVALID",
    "IExecutionContext": "is_stream_capturable",
    "ICudaEngine": "create_runtime_config",
    "IRuntimeConfig": "create_runtime_cache set_runtime_cache "
    "set_execution_context_allocation_strategy",
    "IRuntimeCache": "serialize deserialize",
}


def names_of(table: dict[str, str]) -> list[tuple[str, str]]:
    """Flatten a table to (class, name)."""
    return [(kind, name) for kind, names in table.items() for name in names.split()]


def record(module: str) -> dict[str, str | None]:
    """``Class.name`` -> its signatures ("" for a property or an enum member), None if absent."""
    trt = importlib.import_module(module)
    found: dict[str, str | None] = {}
    for kind, name in [*names_of(NEEDED), *names_of(DETECTED)]:
        part = getattr(getattr(trt, kind, None), name, None)
        found[f"{kind}.{name}"] = None if part is None else signatures_of(part)
    return dict(sorted(found.items()))


def signatures_of(part: object) -> str:
    """What pybind11 writes into a method's docstring, one overload after the other."""
    lines = (getattr(part, "__doc__", None) or "").strip().splitlines()
    if not callable(part) or not lines:
        return ""
    numbered = [line.split(". ", 1)[1] for line in lines if re.match(r"\d+\. \w+\(", line)]
    return " | ".join(re.sub(r"\b(?:\w+\.)+(?=\w)", "", line) for line in numbered or lines[:1])


if __name__ == "__main__":
    print(json.dumps({"version": sys.argv[2], "source": sys.argv[3], "names": record(sys.argv[1])},
                     indent=1))  # fmt: skip
