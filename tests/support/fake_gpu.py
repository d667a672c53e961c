"""A GPU made of NumPy: streams run in random legal orders, kernels are the real ones on the CPU.

`FakeDriver` counts every allocation and knows the rules that a real driver enforces (no double
free, nothing used after free, captures joined). Work is queued per stream and only done when
the host waits, interleaved by a seeded generator, so a missing event shows as a wrong result.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import random
import tempfile
import weakref
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from esccs_edge.cuda.driver import cuda_error, event_number_of, stream_number_of
from esccs_edge.cuda.pointers import Pointer
from support.host_compiler import compiled


@functools.cache
def host_kernels() -> ctypes.CDLL:
    """The CUDA source compiled by g++ (`kernel_on_host.cpp`)."""
    folder = Path(tempfile.mkdtemp())
    target = compiled("kernel_on_host.cpp", folder / "kernels.so", "-shared", "-fPIC")
    return ctypes.CDLL(str(target))


def at_address(address: int, size: int) -> np.ndarray:
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)


class Block:
    """Memory; its address is real, so that kernels on the CPU can use it."""

    known: ClassVar[weakref.WeakSet] = weakref.WeakSet()  # what the driver answers for addresses

    def __init__(self, size: int, kind: str, ordinal: int | None = 0):
        self._raw = np.full(size + 256, 0xCD, np.uint8)  # not zero, as on a device
        skip = -self._raw.ctypes.data % 256
        self.array = self._raw[skip : skip + size]
        self.kind, self.size, self.ordinal = kind, size, ordinal
        self.known.add(self)


#: Attributes of ``cuda.h``: multiprocessors, ECC, bus width, L2, shared memory twice.
TRAITS = {16: 16, 32: 0, 37: 256, 38: 4 << 20, 81: 164 << 10, 97: 163 << 10}


class FakeStream:
    def __init__(self, number: int):
        self.number, self.queue, self.capture = number, deque(), None


class FakeEvent:
    serials = itertools.count()  # unlike id(), never used again after the event is gone

    def __init__(self, timing: bool, blocking: bool):
        self.serial, self.blocking = next(self.serials), blocking
        self.timing, self.recorded, self.capture = timing, 0, None


class Capture:
    def __init__(self, origin: FakeStream):
        self.origin, self.queues = origin, {origin: []}


class FakeDriver:
    """See `esccs_edge.cuda.driver.Driver`."""

    name = "fake"

    def __init__(self, *, integrated=False, has_graphs=True, seed=0, fail=None):
        self.has_graphs, self.integrated = has_graphs, integrated
        self.random = random.Random(seed)
        self.live: list[Any] = []
        self.log: list[str] = []
        self.depth, self.released, self.numbers = 0, False, 1000
        self.streams: list[FakeStream] = []
        self.uploaded: list[int] = []  # bytes of each copy to the device
        self.done: set[tuple[int, int]] = set()
        self.fail = fail or {}
        self.traits: dict[int, int] = {}  # attributes that differ from `TRAITS`
        self.calls_to_live: int | None = None  # after so many calls every one fails with `death`
        self.death = (700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access")

    # What a real driver checks.

    def _enter(self, call: str) -> None:
        assert not self.released, f"{call} after the context was released"
        assert self.depth > 0, f"{call} without a current context"
        self.log.append(call)
        self._die(call)
        if call in self.fail and self.log.count(call) == self.fail[call][0]:
            raise cuda_error(call, *self.fail[call][1])

    def _die(self, call: str) -> None:
        if self.calls_to_live is not None:
            self.calls_to_live -= 1
            if self.calls_to_live < 0:
                raise cuda_error(call, *self.death)

    def _new(self, call: str, made):
        self._enter(call)
        self.live.append(made)
        return made

    def _end(self, call: str, gone) -> None:
        self._enter(call)
        assert any(gone is one for one in self.live), f"{call} of something freed or unknown"
        self.live = [one for one in self.live if one is not gone]

    def push(self):
        assert not self.released
        self.depth += 1

    def pop(self):
        assert self.depth > 0
        self.depth -= 1

    def release(self):
        assert not self.released and not self.live, f"still allocated: {self.live}"
        assert self.depth == 0
        self.released = True

    # Device and memory.

    def attribute(self, number):
        return {**TRAITS, 18: int(self.integrated), 75: 8, 76: 7, **self.traits}[number]

    def device_name(self):
        return "Fake GPU"

    def memory_info(self):
        return 1 << 30, 1 << 31

    def pointer(self, address):
        self._enter("pointer")
        for block in list(Block.known):
            start = block.array.ctypes.data
            if start <= address < start + block.size:
                return Pointer(True, block.ordinal, start, block.size)
        return Pointer(False)

    def alloc(self, size):
        return self._new("alloc", Block(size, "device"))

    def free(self, memory):
        self._end("free", memory)

    def alloc_host(self, size, mapped):
        return self._new("alloc_host", Block(size, "mapped" if mapped else "pinned"))

    def free_host(self, memory):
        self._end("free_host", memory)

    def address(self, memory):
        assert memory.kind != "pinned" or not self.integrated
        return memory.array.ctypes.data

    def host_array(self, memory):
        return memory.array

    def copy_to_device(self, target, source, size, stream):
        self._enter("copy_to_device")
        self.uploaded.append(size)
        device, host = at_address(target, size), self.host_array(source)[:size]
        self._enqueue(stream, "copy_to_device", lambda: np.copyto(device, host))

    def copy_to_host(self, target, source, size, stream):
        self._enter("copy_to_host")
        device, host = at_address(source, size), self.host_array(target)[:size]
        self._enqueue(stream, "copy_to_host", lambda: np.copyto(host, device))

    def fill_zero(self, address, size, stream):
        self._enter("fill_zero")
        block = at_address(address, size)
        self._enqueue(stream, "fill_zero", lambda: block.fill(0))

    # Streams and events.

    def create_stream(self):
        self.numbers += 1
        stream = self._new("create_stream", FakeStream(self.numbers))
        self.streams.append(stream)
        return stream

    def adopt_stream(self, stream):
        number = stream_number_of(stream)
        found = next((known for known in self.streams if known.number == number), None)
        if found is None:
            found = FakeStream(number)
            self.streams.append(found)
        return found

    def destroy_stream(self, stream):
        assert not stream.queue, "stream destroyed with work on it"
        self._end("destroy_stream", stream)

    def synchronize_stream(self, stream):
        self._enter("synchronize_stream")
        self._run(lambda: not stream.queue)

    def stream_number(self, stream):
        return stream.number

    def create_event(self, timing, blocking):
        return self._new("create_event", FakeEvent(timing, blocking))

    def adopt_event(self, event):
        event_number_of(event)
        return event.fake

    def destroy_event(self, event):
        self._end("destroy_event", event)

    def record_event(self, event, stream):
        self._enter("record_event")
        event.recorded += 1
        event.capture = stream.capture
        self._queue(stream).append(("record", event, event.recorded))

    def wait_event(self, stream, event):
        self._enter("wait_event")
        if event.capture is not None:  # the stream joins the capture
            stream.capture = event.capture
            event.capture.queues.setdefault(stream, [])
        self._queue(stream).append(("wait", event, event.recorded))

    def synchronize_event(self, event):
        self._enter("synchronize_event")
        mark = (event.serial, event.recorded)
        self._run(lambda: event.recorded == 0 or mark in self.done)

    def elapsed_ms(self, start, end):
        assert start.timing and end.timing
        return 1.0

    # Kernels.

    def load_module(self, image):
        assert image[:4] in (b"\x50\xed\x55\xba", b"fake")  # a fatbin's magic number
        return self._new("load_module", SimpleNamespace(image=image))

    def unload_module(self, module):
        self._end("unload_module", module)

    def function(self, module, name):
        return getattr(host_kernels(), f"host_{name}")

    def launch(self, function, shape, stream, arguments):
        self._enter("launch")
        grid, block, shared_bytes = shape
        assert shared_bytes <= 48 * 1024 and block % 32 == 0
        kept = arguments.struct.copy()
        name = function.__name__.removeprefix("host_")

        def run():
            function(ctypes.c_void_p(kept.ctypes.data), *grid, block)

        self._enqueue(stream, name, run)

    # Graphs.

    def begin_capture(self, stream):
        self._enter("begin_capture")
        stream.capture = Capture(stream)

    def end_capture(self, stream):
        capture = stream.capture
        for member in capture.queues:  # a capture ends even when ending it fails
            member.capture = None
        self._enter("end_capture")
        joined = [op[1:] for op in capture.queues[capture.origin] if op[0] == "wait"]
        for member, queue in capture.queues.items():
            if member is not capture.origin and queue:
                last = queue[-1]
                if last[0] != "record" or last[1:] not in joined:
                    raise cuda_error("cuStreamEndCapture", 904, "UNJOINED", "unjoined work")
        return self._new("graph", capture)

    def launch_graph(self, graph, stream):
        self._enter("launch_graph")

        def replay():
            queues = [deque(queue) for queue in graph.queues.values()]
            _interleave(queues, set(), self.random, lambda: not any(queues))

        self._enqueue(stream, "graph", replay)

    def destroy_graph(self, graph):
        self._end("destroy_graph", graph)

    def _queue(self, stream):
        return stream.queue if stream.capture is None else stream.capture.queues[stream]

    def _enqueue(self, stream, name, work) -> None:
        self._queue(stream).append((name, work))

    def _run(self, until) -> None:
        _interleave([s.queue for s in self.streams], self.done, self.random, until)

    def enqueue_on(self, number: int, work) -> None:
        """What TensorRT does with a stream number."""
        stream = next(s for s in self.streams if s.number == number)
        self._enqueue(stream, "engine", work)


def _interleave(queues, done, chooser, until) -> None:
    while not until():
        ready = [q for q in queues if q and (q[0][0] != "wait" or _passed(q[0], done))]
        assert ready, "deadlock: every stream waits for an event that is never recorded"
        operation = chooser.choice(ready).popleft()
        if operation[0] == "record":
            done.add((operation[1].serial, operation[2]))
        elif operation[0] != "wait":
            operation[1]()


def _passed(operation, done) -> bool:
    _, event, wanted = operation
    return wanted == 0 or (event.serial, wanted) in done
