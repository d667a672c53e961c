"""A stand-in for TensorRT: a bundle's ONNX graph, run by torch on the stream of the lane.

With it a lane works on the real driver, with right answers, whatever TensorRT does on that GPU:
copies, kernels, capture and replay are the real ones. It says nothing of how fast TensorRT is.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from esccs_edge.backends.trt import backend as trt_backend
from esccs_edge.backends.trt.build import BuildOptions
from esccs_edge.backends.trt.library import Flavor, LoadedEngine
from esccs_edge.calibration.torch_operations import OPERATIONS
from esccs_edge.contracts.manifest import Manifest

Tensors = dict[str, torch.Tensor]
NAME = "stand-in"


def _quantize(a, x, scale, zero):
    low, high = (getattr(torch.iinfo(zero.dtype), end) for end in ("min", "max"))
    return (x / _along(scale, x, a) + _along(zero, x, a)).round().clamp(low, high)


def _dequantize(a, x, scale, zero):
    return (x - _along(zero, x, a).to(scale.dtype)) * _along(scale, x, a)


def _along(values, x, a):
    """Lay a value per channel along its axis; a single one stays as it is."""
    if values.numel() == 1:
        return values
    return values.reshape([-1 if n == a.get("axis", 1) % x.ndim else 1 for n in range(x.ndim)])


_OPERATIONS = {
    **OPERATIONS,
    "Cast": lambda a, x: x.to(
        torch.from_numpy(np.empty(0, helper.tensor_dtype_to_np_dtype(a["to"]))).dtype
    ),
    "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
    "GlobalAveragePool": lambda _, x: x.mean((2, 3), keepdim=True),
    "Max": lambda _, x, y: torch.maximum(x, y),
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
}


class TorchGraph:
    """An ONNX graph as a function of torch tensors; returns every value in it, by name.

    Args:
        content: The ONNX file.
        device: Where its weights lie. Integers of 64 bits, such as axes, stay on the host.
    """

    def __init__(self, content: bytes, device: str) -> None:
        graph = onnx.load_model_from_string(content).graph
        self._nodes = [
            (_OPERATIONS[node.op_type], _attributes(node), list(node.input), list(node.output))
            for node in graph.node
        ]
        arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self._constants = {
            name: torch.from_numpy(array.copy()).to("cpu" if array.dtype == np.int64 else device)
            for name, array in arrays.items()
        }

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        values: Tensors = {**self._constants, **inputs}
        for operation, attributes, read, written in self._nodes:
            found: Any = operation(attributes, *(values[name] if name else None for name in read))
            parts = found if isinstance(found, tuple) else (found,)
            values.update(zip(written, parts, strict=True))
        return values


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


class OnGpu:
    """Where torch has CUDA: addresses are the GPU's, streams are borrowed.

    Views are kept, so that none has to be made, and the driver asked, while a graph is recorded.
    """

    device = "cuda"

    def __init__(self) -> None:
        self.tensor = functools.cache(self._tensor)

    def _tensor(self, address: int, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        interface = {
            "data": (address, False), "shape": shape, "typestr": np.dtype(dtype).str, "version": 2,
        }  # fmt: skip
        return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=interface), device="cuda")

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            work()


class OnHost:
    """Over `fake_libcuda`, whose device memory is the host's: the work is a host function."""

    device = "cpu"

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        self._kept: list[Any] = []  # a graph calls it again

    def tensor(self, address: int, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        content = (ctypes.c_uint8 * size).from_address(address)
        return torch.from_numpy(np.frombuffer(content, dtype).reshape(shape))

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: work())
        self._kept.append(function)
        failed = self._library.cuLaunchHostFunc(ctypes.c_void_p(stream), function, None)
        assert not failed, f"cuLaunchHostFunc failed: {failed}"


class TorchContext:
    """What a lane calls of an execution context."""

    def __init__(self, engine: TorchEngine) -> None:
        self.error_recorder: Any = None
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._values: Tensors = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_device_memory(self, address: int, size: int) -> None:
        """Torch has memory of its own."""

    def execute_async_v3(self, stream: int) -> bool:
        self._engine.place.enqueue(stream, self._answer)
        return True

    @torch.inference_mode()
    def _answer(self) -> None:
        place, manifest = self._engine.place, self._engine.manifest
        inputs = {
            name: place.tensor(self._addresses[name], shape, "float32")
            for name, shape in self._shapes.items()
        }
        # What a graph works in must not be lent to others, and was lent to it by the run before.
        self._values = {}
        self._values = self._engine.graph(inputs)
        rows = next(iter(self._shapes.values()))[0]
        for name, tensor in manifest.returned.items():
            target = place.tensor(self._addresses[name], (rows, *tensor.row), tensor.dtype)
            target.copy_(self._values[name])


class TorchEngine:
    """What a lane asks of an engine."""

    device_memory_size_v2 = num_aux_streams = 0

    def __init__(self, onnx: bytes, manifest: Manifest) -> None:
        self.place: Any = OnGpu() if torch.cuda.is_available() else OnHost()
        self.graph = TorchGraph(onnx, self.place.device)
        self.manifest = manifest

    def create_execution_context(self, strategy: object) -> TorchContext:
        return TorchContext(self)


class _Errors:
    """An error recorder; torch raises instead."""

    def take(self) -> list[tuple[str, str]]:
        return []


_LIBRARY = SimpleNamespace(
    ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED=object()),
    IErrorRecorder=object,
)
FLAVOR = Flavor("tensorrt", f"{NAME}: torch {torch.__version__}", _LIBRARY)


class _Builder:
    """In the place of `EngineBuilder`."""

    key: Any = None

    def __init__(self, bundle, onnx, manifest, flavor, device, progress) -> None:
        self.options = BuildOptions(batch=manifest.batch)
        self._engine = TorchEngine(onnx, manifest)

    def load_or_build(self, cache: object) -> LoadedEngine:
        return LoadedEngine(FLAVOR, self._engine, _Errors(), None)


@contextmanager
def standing_in() -> Iterator[None]:
    """Let every `TrtBackend` that is opened meanwhile run torch."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    with ExitStack() as patches:
        for name in ("pick_flavor", "load_flavor"):
            patches.enter_context(patch.object(trt_backend, name, lambda *_: FLAVOR))
        patches.enter_context(patch.object(trt_backend, "EngineBuilder", _Builder))
        yield
