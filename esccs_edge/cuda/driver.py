"""What this package needs from a CUDA binding: one protocol, two providers behind it.

``ESCCS_CUDA=cuda-python|pycuda`` chooses; otherwise the first that works is taken. Handles are
whatever the provider uses; only it looks inside. A GPU is in `device`, what is on it in `owners`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import (
    BackendError,
    CudaError,
    ForkedProcessError,
    InputError,
    MissingDependencyError,
    Remedy,
)
from .pointers import Pointer
from .probe import is_forked_from_probe, probe_driver

#: Provider name -> module of this package, in order of preference.
PROVIDERS = {"cuda-python": "cuda_python_driver", "pycuda": "pycuda_driver"}

Handle = Any


class Arguments:
    """The one struct that a kernel takes by value, kept where the driver can read it.

    Args:
        struct: 0-d structured array of the struct's layout; may be changed between launches.
    """

    def __init__(self, struct: npt.NDArray[np.void]) -> None:
        self.struct = struct
        self._pointers = np.array([struct.ctypes.data], np.uint64)
        #: Where the pointer to the struct lies, as ``cuLaunchKernel`` wants it.
        self.address = int(self._pointers.ctypes.data)


class LaunchShape(NamedTuple):
    """How many threads run a kernel.

    Attributes:
        grid: Blocks along x and y.
        block: Threads of a block.
        shared_bytes: Dynamic shared memory of a block.
    """

    grid: tuple[int, int]
    block: int
    shared_bytes: int = 0


class Driver(Protocol):
    """Calls of the CUDA driver on one device's primary context.

    Every call but `push` and the properties needs the context current (`push` ... `pop`), and
    raises `CudaError` when the driver refuses. Sizes are bytes, addresses are integers.
    """

    name: str
    has_graphs: bool

    def attribute(self, number: int) -> int:
        """Return a device attribute by its number in ``cuda.h``."""

    def device_name(self) -> str:
        """Return the GPU's name."""

    def push(self) -> None:
        """Make the primary context current on this thread."""

    def pop(self) -> None:
        """Undo `push`."""

    def release(self) -> None:
        """Release the primary context; the last call."""

    def memory_info(self) -> tuple[int, int]:
        """Return free and total device memory."""

    def pointer(self, address: int) -> Pointer:
        """Return what the driver knows of an address; it may be anyone's, or nobody's."""

    def alloc(self, size: int) -> Handle:
        """Allocate device memory."""

    def free(self, memory: Handle) -> None:
        """Free device memory."""

    def alloc_host(self, size: int, mapped: bool) -> Handle:
        """Allocate pinned host memory, visible to the device when ``mapped``."""

    def free_host(self, memory: Handle) -> None:
        """Free pinned host memory."""

    def address(self, memory: Handle) -> int:
        """Return the device address of memory from `alloc`, or the mapped one of `alloc_host`."""

    def host_array(self, memory: Handle) -> npt.NDArray[np.uint8]:
        """Return a view of memory from `alloc_host`; it does not own it."""

    def copy_to_device(self, target: int, source: Handle, size: int, stream: Handle) -> None:
        """Enqueue a copy from the start of memory from `alloc_host`."""

    def copy_to_host(self, target: Handle, source: int, size: int, stream: Handle) -> None:
        """Enqueue a copy to the start of memory from `alloc_host`."""

    def fill_zero(self, address: int, size: int, stream: Handle) -> None:
        """Enqueue setting device memory to zero."""

    def create_stream(self) -> Handle:
        """Create a stream that does not wait for the default one."""

    def adopt_stream(self, stream: Any) -> Handle:
        """Return the handle of a stream made by another library, without owning it."""

    def destroy_stream(self, stream: Handle) -> None:
        """Destroy a stream."""

    def synchronize_stream(self, stream: Handle) -> None:
        """Wait until everything enqueued has ended."""

    def stream_number(self, stream: Handle) -> int:
        """Return the ``CUstream`` as an integer, for TensorRT."""

    def create_event(self, timing: bool, blocking: bool) -> Handle:
        """Create an event; without timing it is cheaper.

        Waiting on a ``blocking`` one lets the thread sleep. On another the context's scheduling
        flag decides: by default it spins while there are cores to spare; Jetson may sleep instead.
        """

    def adopt_event(self, event: Any) -> Handle:
        """Return the handle of an event made by another library, without owning it."""

    def destroy_event(self, event: Handle) -> None:
        """Destroy an event."""

    def record_event(self, event: Handle, stream: Handle) -> None:
        """Enqueue the event."""

    def wait_event(self, stream: Handle, event: Handle) -> None:
        """Let what is enqueued next on the stream wait for the event; returns at once."""

    def synchronize_event(self, event: Handle) -> None:
        """Wait until the event has happened."""

    def elapsed_ms(self, start: Handle, end: Handle) -> float:
        """Return the time between two events that were made with timing."""

    def load_module(self, image: bytes) -> Handle:
        """Load a fatbin or cubin."""

    def unload_module(self, module: Handle) -> None:
        """Unload it; its functions end."""

    def function(self, module: Handle, name: str) -> Handle:
        """Return a kernel by its unmangled name."""

    def launch(
        self, function: Handle, shape: LaunchShape, stream: Handle, arguments: Arguments
    ) -> None:
        """Enqueue a kernel; the struct is read before this returns."""

    def begin_capture(self, stream: Handle) -> None:
        """Start capturing; other threads are not affected."""

    def end_capture(self, stream: Handle) -> Handle:
        """End capturing and return the graph, ready to launch."""

    def launch_graph(self, graph: Handle, stream: Handle) -> None:
        """Enqueue a captured graph."""

    def destroy_graph(self, graph: Handle) -> None:
        """Destroy a captured graph."""


#: Driver error numbers (``CUresult``) after which nothing on this context can be trusted: the
#: driver was shut down (4), hardware errors (214, 220, 226), the context is gone (709), a kernel
#: did what it must not (700 to 721, 911), and what the driver itself cannot name (999).
_STICKY = frozenset(
    {4, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 911, 999}
)
_HINTS = {
    2: ("Use a smaller max_batch, fewer lanes, or free GPU memory", Remedy.SMALLER_BATCH),
    3: ("Start workers with spawn: CUDA does not survive a fork", Remedy.NONE),
    46: (
        "Another process holds this GPU (exclusive or prohibited compute mode): end it, or run: "
        "nvidia-smi -c DEFAULT",
        Remedy.NONE,
    ),
}


def cuda_error(call: str, number: int, name: str, explanation: str) -> CudaError:
    """Make the error of a failed driver call, with NVIDIA's own explanation."""
    if number in _STICKY:
        hint, action = "The GPU state is lost for this process: restart it", Remedy.RESTART
    else:
        hint, action = _HINTS.get(number, ("", Remedy.NONE))
    return CudaError(f"{call} failed: {name} ({number}), {explanation}", hint=hint, action=action)


def open_driver(ordinal: int = 0) -> Driver:
    """Open a device through the provider that ``ESCCS_CUDA`` names, or the first that works.

    Raises:
        InputError: ``ESCCS_CUDA`` names no provider.
        BackendError: There is no driver or no such GPU.
        ForkedProcessError: The driver was used before this process was forked.
        MissingDependencyError: No provider is installed; the hint names the packages.
        CudaError: The driver refused.
    """
    wanted = os.environ.get("ESCCS_CUDA", "")
    if wanted and wanted not in PROVIDERS:
        raise InputError(f"ESCCS_CUDA is {wanted!r}, expected one of {', '.join(PROVIDERS)}")
    _require_gpu(ordinal)
    reasons = []
    for name in (wanted,) if wanted else tuple(PROVIDERS):
        try:
            module = importlib.import_module(f".{PROVIDERS[name]}", __package__)
        except ImportError as error:
            reasons.append(f"{name}: {error}")
            continue
        opened: Driver = module.open_device(ordinal)
        return opened
    raise MissingDependencyError(
        f"using the GPU needs a CUDA binding, none loads ({'; '.join(reasons)})",
        hint=_install_hint(wanted),
    )


def _require_gpu(ordinal: int) -> None:
    driver = probe_driver()
    if driver.problem:
        raise BackendError(f"no GPU can be used: {driver.problem}")
    if is_forked_from_probe():
        raise ForkedProcessError(
            "the parent of this process has used the CUDA driver, which does not survive a fork",
            hint="Start workers with spawn",
        )
    if not 0 <= ordinal < len(driver.gpus):
        raise BackendError(f"GPU {ordinal} was asked for, this host shows {len(driver.gpus)}")


def _install_hint(wanted: str) -> str:
    if wanted == "pycuda":
        return 'Run: pip install "esccs-edge[pycuda]" (compiles against the CUDA toolkit)'
    major = probe_driver().version.split(".")[0] or "13"
    return f'Run: pip install "cuda-python=={major}.*"'


def stream_number_of(stream: Any) -> int:
    """Return the ``CUstream`` number of any library's stream object.

    Understands ``__cuda_stream__`` (cuda.core, recent torch), ``cuda_stream`` (torch), ``handle``
    (pycuda), ``ptr`` (cupy) and plain integers.

    Raises:
        InputError: It is none of these.
    """
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        version, number = protocol() if callable(protocol) else protocol
        if version != 0:
            raise InputError(f"__cuda_stream__ has version {version}, expected 0")
        return int(number)
    for attribute in ("cuda_stream", "handle", "ptr"):
        if (number := getattr(stream, attribute, None)) is not None:
            return int(number)
    if isinstance(stream, int) and not isinstance(stream, bool):
        return stream
    raise InputError(f"{type(stream).__name__} is not a CUDA stream that can be used here")


def event_number_of(event: Any) -> int:
    """Return the ``CUevent`` number of any library's event object.

    Understands ``cuda_event`` (torch), ``handle`` (cuda.core), ``ptr`` (cupy) and plain integers.
    An event of pycuda, which hides its number, gives 0: only the same binding can use it.

    Raises:
        InputError: It is none of these.
    """
    for attribute in ("cuda_event", "handle", "ptr"):
        if (number := getattr(event, attribute, None)) is not None:
            return int(number)
    if type(event).__module__.startswith("pycuda."):
        return 0
    if isinstance(event, int) and not isinstance(event, bool):
        return event
    raise InputError(f"{type(event).__name__} is not a CUDA event that can be used here")


def grid_of(sizes: Sequence[int]) -> tuple[int, int]:
    """Check a two-dimensional launch grid against the limits of every supported device."""
    x, y = sizes
    if not (1 <= x < 2**31 and 1 <= y <= 65535):
        raise InputError(f"launch grid is {x} x {y}, expected 1..2147483647 x 1..65535")
    return x, y
