"""What the runtime calls of TensorRT, on the fake GPU, answered by a network in NumPy."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
from onnx import load_model_from_string
from onnx.reference import ReferenceEvaluator

from support.fake_gpu import FakeDriver, at_address
from support.tiny import expected

#: What the fake engine works in.
ACTIVATION_BYTES = 4096


class FakeContext:
    """An execution context that answers with the library's `network`."""

    def __init__(self, trt, manifest):
        self._trt, self._manifest = trt, manifest
        self.addresses, self.shapes, self.aux, self.error_recorder = {}, {}, None, None
        self.memory, self.profiler, self.enqueue_emits_profile = None, None, False

    def set_input_shape(self, name, shape):
        self._trt.calls.append("set_input_shape")
        self.shapes[name] = tuple(shape)
        return self._manifest.batch.min <= shape[0] <= self._manifest.batch.max

    def set_tensor_address(self, name, address):
        assert address % 256 == 0, f"{name} is not aligned as TensorRT asks"
        self.addresses[name] = address
        return True

    def set_device_memory(self, address, size):
        assert address % 256 == 0 and size >= ACTIVATION_BYTES
        self.memory = address

    def set_aux_streams(self, streams):
        assert 0 not in streams and len(set(streams)) == len(streams)
        self.aux = list(streams)

    def execute_async_v3(self, number):
        assert self.memory is not None, "run before it was given memory"
        self._trt.calls.append("execute_async_v3")
        if self._trt.run_errors:
            code, text = self._trt.run_errors.pop(0)
            self.error_recorder.report_error(SimpleNamespace(name=code), text)
            return False
        shapes = dict(self.shapes)
        memory = self.memory
        self._trt.driver.enqueue_on(number, lambda: self._answer(shapes, memory))
        if self.profiler is not None and self.enqueue_emits_profile:
            for place, layer in enumerate(self._trt.layers):
                self._trt.times_told += 1
                first = self._trt.times_told <= len(self._trt.layers)
                self.profiler.report_layer_time(layer["Name"], 9.0 if first else 0.25 * place)
        return True

    def _answer(self, shapes, memory):
        at_address(memory, ACTIVATION_BYTES)[:] = 0xEE  # worked in, so it must still be ours
        feed = {name: self._tensor(name, shape) for name, shape in shapes.items()}
        for name, values in self._trt.network(feed).items():
            if name in self._manifest.returned:  # the build left out the others
                np.copyto(self._tensor(name, values.shape, values.dtype), values)

    def _tensor(self, name, shape, dtype=np.float32):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return at_address(self.addresses[name], size).view(dtype).reshape(shape)


class FakeEngine:
    device_memory_size_v2 = ACTIVATION_BYTES

    def __init__(self, trt, manifest, aux):
        self._trt, self._manifest, self.num_aux_streams = trt, manifest, aux

    def create_engine_inspector(self):
        def listed(form):
            assert form is self._trt.LayerInformationFormat.JSON
            return json.dumps({"Layers": self._trt.layers})

        return SimpleNamespace(get_engine_information=listed)

    def create_execution_context(self, how):
        """A runtime config, or the strategy itself."""
        user_managed = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        assert getattr(how, "strategy", how) is user_managed
        self._trt.calls.append("create_execution_context")
        self._trt.configs.append(None if how is user_managed else how)
        if self._trt.no_context:
            return None
        self._trt.contexts.append(FakeContext(self._trt, self._manifest))
        return self._trt.contexts[-1]


class FakeTrt:
    """The module: the interfaces to implement, and what was called."""

    class ILogger:
        pass

    class IErrorRecorder:
        pass

    class IProgressMonitor:
        pass

    class IProfiler:
        pass

    class ExecutionContextAllocationStrategy:
        USER_MANAGED = object()

    class NetworkDefinitionCreationFlag:
        STRONGLY_TYPED = 1

    class BuilderFlag:
        INT8 = 2

    class LayerInformationFormat:
        JSON = object()

    def __init__(self, driver, manifest, aux, network):
        self.network = network
        self.driver, self.calls, self.run_errors, self.no_context = driver, [], [], False
        self.configs, self.contexts, self.layers, self.times_told = [], [], [], 0
        self.engine = FakeEngine(self, manifest, aux)


def fake_flavor(driver: FakeDriver, manifest, *, aux: int = 1, onnx: bytes | None = None):
    """Return a `Flavor` whose module records calls; set ``run_errors`` to make a run fail.

    It answers by the ONNX file in NumPy, or without one as tiny's twin.
    """
    from esccs_edge.backends.trt.library import Flavor

    network = tiny_network(manifest) if onnx is None else onnx_network(onnx)
    return Flavor("tensorrt", "10.3.0", FakeTrt(driver, manifest, aux, network))


def tiny_network(manifest):
    return lambda feed: dict(
        zip(("logits", "gate"), expected(manifest, *feed.values()), strict=True)
    )


def onnx_network(content: bytes):
    model = ReferenceEvaluator(load_model_from_string(content))
    return lambda feed: dict(zip(model.output_names, model.run(None, feed), strict=True))
