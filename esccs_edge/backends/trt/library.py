"""The one adapter over TensorRT 10.3 to 11.x and TensorRT for RTX 1.x: loading and running.

What differs between them is detected with ``hasattr`` here and in `build`, never by comparing
version strings. Their log and errors become ours.
"""

from __future__ import annotations

import importlib
import json
import logging
import threading
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

from ...cuda.probe import probe_driver
from ...errors import BackendError, InputError, MissingDependencyError, Remedy

FlavorName = Literal["rtx", "tensorrt"]
_MODULES = {"rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"), "tensorrt": ("tensorrt",)}
#: GPUs whose compute capability TensorRT for RTX 1.7 lists as a target.
RTX_TARGETS = frozenset({"7.5", "8.0", "8.6", "8.9", "12.0", "12.1"})
_INSTALL = {
    "rtx": "Run: pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings",
    "tensorrt": "Run: pip install tensorrt (on a Jetson: sudo apt install python3-libnvinfer)",
}
#: What a run-time error code asks for; the meanings stand in NvInferRuntimeBase.h.
_ACTIONS = {
    "INTERNAL_ERROR": Remedy.RESTART,
    "FAILED_EXECUTION": Remedy.RETRY,
    "FAILED_COMPUTATION": Remedy.RETRY,
    "FAILED_ALLOCATION": Remedy.SMALLER_BATCH,
    "UNSUPPORTED_STATE": Remedy.REBUILD,
}
_log = logging.getLogger("esccs_edge.tensorrt")
_log.addHandler(logging.NullHandler())  # silent unless logging is configured; errors are raised


@dataclass(frozen=True)
class Flavor:
    """One loaded TensorRT library: ``trt`` is its Python module."""

    name: FlavorName
    version: str
    trt: Any


@cache
def load_flavor(name: FlavorName) -> Flavor:
    """Import a TensorRT library.

    Raises:
        InputError: The name is neither ``"rtx"`` nor ``"tensorrt"``.
        MissingDependencyError: It is not installed; the hint names the package.
        BackendError: It is installed but does not load.
    """
    if name not in get_args(FlavorName):
        raise InputError(f"TensorRT flavor is {name!r}, expected 'rtx' or 'tensorrt'")
    for module in _MODULES[name]:
        try:
            trt = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise _broken(module, error) from error
        except (ImportError, OSError, RuntimeError) as error:
            raise _broken(module, error) from error
        else:
            return Flavor(name, str(trt.__version__), trt)
    raise MissingDependencyError(
        f"this needs the Python package {' or '.join(_MODULES[name])}, which is not installed",
        hint=_INSTALL[name],
    )


def pick_flavor() -> Flavor:
    """Return the TensorRT to run with here: ``tensorrt`` where installed, else ``rtx``.

    Raises:
        MissingDependencyError: Neither is installed.
    """
    for name in ("tensorrt", "rtx"):
        try:
            return load_flavor(name)
        except MissingDependencyError:
            continue
    raise MissingDependencyError(
        "the TensorRT backend needs TensorRT, which is not installed",
        hint=f"{_INSTALL['tensorrt']}; or, for a GeForce or workstation GPU, {_INSTALL['rtx']}",
    )


def _broken(module: str, error: BaseException) -> BackendError:
    return BackendError(
        f"{module} is installed but does not load: {error}",
        hint="Install the libraries of the same version as the bindings, or reinstall both",
    )


class LogLines:
    """TensorRT's log -> Python logging, under the name ``esccs_edge.tensorrt``."""

    _LEVELS = {
        "INTERNAL_ERROR": logging.CRITICAL,
        "ERROR": logging.ERROR,
        "WARNING": logging.WARNING,
    }

    def __init__(self) -> None:
        self._layers: dict[int, str] = {}  # of this thread's last build

    def log(self, severity: Any, message: str) -> None:
        """Forward one line; INFO and VERBOSE become DEBUG, since TensorRT is chatty."""
        if message.startswith("Layers:\n"):
            self._layers[threading.get_ident()] = message
        _log.log(self._LEVELS.get(severity.name, logging.DEBUG), "%s", message)

    def take_layers(self) -> str:
        """Return the table of layers that this thread's last build logged, once; or nothing."""
        return self._layers.pop(threading.get_ident(), "")


class ErrorLog:
    """Collects what TensorRT reports, so that it can stand in our error. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors: list[tuple[Any, str]] = []

    def report_error(self, code: Any, description: str) -> bool:
        """Keep one error; False means that TensorRT continues and cleans up."""
        with self._lock:
            self._errors.append((code, description))
        return False

    def num_errors(self) -> int:
        """Count the errors kept."""
        return len(self._errors)

    get_num_errors = num_errors  # the name that the bindings' C++ side calls

    def get_error_code(self, index: int) -> Any:
        """Return the enum member of one error."""
        return self._errors[index][0]

    def get_error_desc(self, index: int) -> str:
        """Return the text of one error."""
        return self._errors[index][1]

    def has_overflowed(self) -> bool:
        """Return False, since nothing is dropped."""
        return False

    def clear(self) -> None:
        """Forget all errors."""
        with self._lock:
            self._errors.clear()

    def take(self) -> list[tuple[str, str]]:
        """Return ``(code name, text)`` of all errors and forget them."""
        with self._lock:
            taken = [(code.name, text) for code, text in self._errors]
            self._errors.clear()
        return taken


def implement(interface: type, logic: type) -> type:
    """Join our plain class with the library's interface, whose own constructor must run."""

    def init(self: Any, *arguments: Any) -> None:
        interface.__init__(self)  # type: ignore[misc]
        logic.__init__(self, *arguments)  # type: ignore[misc]

    return type(logic.__name__, (logic, interface), {"__init__": init})


@cache
def logger_of(flavor: Flavor) -> Any:
    """Return the process's one logger of a flavor; TensorRT wants a single one."""
    return implement(flavor.trt.ILogger, LogLines)()


def error_log(flavor: Flavor) -> Any:
    """Make an `ErrorLog` that the flavor accepts as ``error_recorder``."""
    return implement(flavor.trt.IErrorRecorder, ErrorLog)()


def trt_error(doing: str, errors: Any, *, running: bool = False) -> BackendError:
    """Turn what was reported into our error; ``running`` also says what may help."""
    found = errors.take()
    reason = "; ".join(text for _, text in found) or "TensorRT gave no reason"
    known = [_ACTIONS[code] for code, _ in found if code in _ACTIONS] if running else []
    action = known[0] if known else Remedy.NONE
    return BackendError(f"{doing} failed: {reason}", action=action)


@dataclass
class LoadedEngine:
    """An engine ready for execution contexts. Drop contexts first, then call `release`.

    Attributes:
        flavor: Its library.
        engine: The library's engine.
        errors: Collects what the engine reports.
        runtime: What loaded it.
        config: How contexts are made; None for the library's default.
        lost: Why nothing computed with it in this process could be trusted any more; empty if all
            is well. Set once, for all lanes.
    """

    flavor: Flavor
    engine: Any
    errors: Any
    runtime: Any
    config: Any = None
    lost: str = ""
    _config_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def activation_bytes(self) -> int:
        """Device memory that a context works in; contexts that never run at once may share it."""
        return int(self.engine.device_memory_size_v2)

    def new_context(self, *, for_graph: bool = False) -> Any:
        """Make an execution context; None if TensorRT could not, which `errors` explains.

        It must be given `activation_bytes` of memory by ``set_device_memory`` before it runs.
        TensorRT for RTX compiles kernels for each batch size: in the background, while a slower one
        runs, or at once where a graph is to keep them.
        """
        strategy = self.flavor.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.config is None:
            return self.engine.create_execution_context(strategy)
        with self._config_lock:  # all lanes share the one that holds the kernels
            self.config.set_execution_context_allocation_strategy(strategy)
            when = getattr(self.flavor.trt, "DynamicShapesKernelSpecializationStrategy", None)
            if when is not None:
                kind = when.EAGER if for_graph else when.LAZY
                self.config.dynamic_shapes_kernel_specialization_strategy = kind
            return self.engine.create_execution_context(self.config)

    def release(self) -> None:
        """Release everything in the order that TensorRT asks for."""
        self.config = None
        self.engine = None
        self.runtime = None

    def layers(self) -> list[dict[str, Any]]:
        """Return what the engine inspector reports of each layer."""
        inspector = self.engine.create_engine_inspector()
        text = inspector.get_engine_information(self.flavor.trt.LayerInformationFormat.JSON)
        listed = json.loads(text).get("Layers", [])
        return [layer if isinstance(layer, dict) else {"Name": layer} for layer in listed]


def load_engine(flavor: Flavor, plan: bytes) -> LoadedEngine:
    """Deserialize an engine that this user built here; a plan is native code.

    Raises:
        BackendError: No driver, or the plan does not fit this GPU and library; then ``action`` is
            ``"rebuild"``.
    """
    if problem := probe_driver().problem:  # trt.Runtime would crash the process at exit
        raise BackendError(f"an engine needs a GPU to run, but {problem}")
    trt, errors = flavor.trt, error_log(flavor)
    runtime = trt.Runtime(logger_of(flavor))
    runtime.error_recorder = errors
    if hasattr(runtime, "get_engine_validity"):
        validity, diagnostics = runtime.get_engine_validity(plan)
        if validity == trt.EngineValidity.INVALID:
            raise BackendError(
                f"this GPU cannot run the engine: {diagnostics}", action=Remedy.REBUILD
            )
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        error = trt_error("Loading the engine", errors)
        raise BackendError(error.message, hint="The engine is built again", action=Remedy.REBUILD)
    return LoadedEngine(flavor, engine, errors, runtime)
