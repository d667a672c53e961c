"""A lane of the CPU backend: how a batch is cut, preprocessed and dealt out to the cores.

A lone pair runs in the thread that asks for it, on all cores. A larger batch is cut into parts that
run one on each core, since cores that work on the same small layers wait for each other at the end
of every one. A part is preprocessed into one of a few slots and started while the next is read; so
its pixels are still in the cache when the network comes to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ...contracts.values import PatchPair, Pixels, PixelStats
from ...errors import BackendError
from ...pixels.preprocess import preprocess, quantize
from ..base import Lane, LaneOutput
from .openvino import ov

if TYPE_CHECKING:
    from .backend import CpuBackend

#: Sizes of a part. Small patches are a third faster sixteen by sixteen than one by one.
PART_SIZES = (16, 8, 4, 2, 1)

#: Pixels from which a part gains nothing by being larger, while a core waits until it is read.
PART_PIXELS = 16 * 64**2

#: Slots beyond one for each core: one is read, and one is ready when a core has done its part.
SPARE_SLOTS = 2

#: Part of a lone pair.
_LONE = slice(0, 1)

#: What was seen in the patches of some pairs, optical and SAR.
_Seen = tuple[list[PixelStats], list[PixelStats]]


class CpuLane(Lane):
    """Slots for the parts of one batch, and its answers."""

    def __init__(self, backend: CpuBackend) -> None:
        manifest = backend.manifest
        self._backend = backend
        self._largest_part = next(
            size
            for size in PART_SIZES
            if size == 1
            or size <= backend.max_batch
            and size * manifest.patch_size**2 <= PART_PIXELS
        )
        self._slots = [Slot(backend, self._largest_part)]
        self._idle = self._slots.copy()  # the one used last is taken first: the cache knows it
        self._under_way: list[tuple[Any, Slot, slice]] = []  # with the request of each part
        self._answers = {
            name: np.zeros((backend.max_batch, *self._slots[0].arrays[name].shape[1:]), np.float32)
            for name in manifest.outputs
        }
        self._batch: Sequence[PatchPair] = ()
        self._seen: _Seen = [], []

    def start(self, batch: Sequence[PatchPair]) -> None:
        """Preprocess a batch and start its parts; a lone pair waits for `finish`."""
        self._forget()
        self._batch = batch
        if len(batch) == 1:
            return
        for part in self._parts():
            slot = self._free_slot()
            if self._read(slot, part):
                request = slot.request(part.stop - part.start, lone=False)
                # Noted first: whatever interrupts this, no buffer is freed under a request.
                self._under_way.append((request, slot, part))
                _call(request.start_async)
            else:
                self._idle.append(slot)

    def finish(self) -> LaneOutput:
        """Wait for the parts of the batch, or do all for a lone pair."""
        if len(self._batch) == 1:
            slot = self._slots[0]
            if self._read(slot, _LONE):
                request = slot.request(1, lone=True)
                with self._backend.turn:
                    _call(request.infer)
                self._take(slot, _LONE)
        if (failed := self._settle()) is not None:
            raise failed
        done = slice(len(self._batch))
        self._batch = ()
        logits, gate = self._answers["logits"][done], self._answers["gate"][done]
        return LaneOutput(logits.copy(), gate.copy(), *self._seen)

    def read(self, batch: Sequence[PatchPair]) -> None:
        """Preprocess a batch and no more; tells how long that takes."""
        self._forget()
        self._batch = batch
        for part in self._parts():
            slot = self._free_slot()
            self._read(slot, part)
            self._idle.append(slot)

    def close(self) -> None:
        """Let what runs end, then drop the buffers."""
        self._forget()
        self._slots.clear()
        self._idle.clear()

    def _parts(self) -> Iterator[slice]:
        for share in shares(len(self._batch), self._backend.cores):
            yield from parts(share, self._largest_part)

    def _free_slot(self) -> Slot:
        if not self._idle:
            if len(self._slots) < self._backend.cores + SPARE_SLOTS:
                self._slots.append(Slot(self._backend, self._largest_part))
                return self._slots[-1]
            if (failed := self._land(0)) is not None:
                raise failed
        return self._idle.pop()

    def _read(self, slot: Slot, part: slice) -> bool:
        """Preprocess pairs of the batch into a slot; tell whether they have any pixels."""
        seen = slot.read(self._batch[part])
        for mine, new in zip(self._seen, seen, strict=True):
            mine.extend(new)
        if any(stats.valid for one in seen for stats in one):
            return True
        for answers in self._answers.values():
            answers[part] = 0
        return False

    def _land(self, number: int) -> BackendError | None:
        """Wait for one of the parts under way and keep its answers; return its error, if any."""
        request, slot, part = self._under_way[number]
        failed: BackendError | None = None
        try:
            _call(request.wait)
            self._take(slot, part)
        except BackendError as error:
            failed = error
        del self._under_way[number]
        self._idle.append(slot)
        return failed

    def _take(self, slot: Slot, part: slice) -> None:
        for name, answers in self._answers.items():
            answers[part] = slot.arrays[name][: part.stop - part.start]

    def _settle(self) -> BackendError | None:
        """Wait for all parts under way; return the error of any."""
        failed: BackendError | None = None
        while self._under_way:
            # The last first, since then all have ended: one awakening, not many.
            failed = self._land(-1) or failed
        return failed

    def _forget(self) -> None:
        """Let what runs end; nobody wants it any more, nor its error."""
        self._settle()
        self._idle = self._slots.copy()
        self._batch, self._seen = (), ([], [])


class Slot:
    """Buffers for one part, and the OpenVINO requests that read them.

    Attributes:
        arrays: Inputs and outputs of the network by name, a row for each pair.
    """

    def __init__(self, backend: CpuBackend, pairs: int) -> None:
        self._backend = backend
        self._steps = backend.model(1, lone=True).steps
        self._requests: dict[tuple[int, bool], Any] = {}
        # Allocated by OpenVINO, whose kernels like its own alignment.
        tensors = backend.manifest.inputs | backend.manifest.outputs
        self._tensors = {n: self._tensor(n, (pairs, *shape[1:])) for n, shape in tensors.items()}
        self.arrays = {name: tensor.data for name, tensor in self._tensors.items()}
        for array in self.arrays.values():
            array[:] = 0  # a part may be run with a row more than it has

    def read(self, pairs: Sequence[PatchPair]) -> _Seen:
        """Preprocess pairs into the first rows; return what was seen."""
        optical = self._preprocess([pair.optical for pair in pairs], "optical")
        sar = self._preprocess([pair.sar for pair in pairs], "sar")
        self.arrays["availability"][: len(pairs)] = [
            (here.availability, there.availability)
            for here, there in zip(optical, sar, strict=True)
        ]
        return optical, sar

    def request(self, pairs: int, *, lone: bool) -> Any:
        """Return the OpenVINO request over the first rows, made once: binding takes long.

        Args:
            pairs: Rows in use; the request may take one more.
            lone: It runs on all cores, instead of one.
        """
        size = min(size for size in PART_SIZES if size >= pairs)
        request = self._requests.get((size, lone))
        if request is None:
            request = self._backend.model(size, lone=lone).compiled.create_infer_request()
            for name, array in self.arrays.items():
                request.set_tensor(name, ov.Tensor(array[:size], shared_memory=True))
            self._requests[size, lone] = request
        return request

    def _tensor(self, name: str, shape: tuple[Any, ...]) -> ov.Tensor:
        if name in self._steps:
            pairs, channels, height, width = shape
            return ov.Tensor(ov.Type.u8, ov.Shape([pairs, height, width, channels]))
        return ov.Tensor(ov.Type.f32, ov.Shape(shape))

    def _preprocess(self, images: list[Pixels | None], name: str) -> list[PixelStats]:
        backend = self._backend
        spec = backend.manifest.optical if name == "optical" else backend.manifest.sar
        linear_to_db = name == "sar" and backend.sar_is_linear
        out = self.arrays[name]
        step = self._steps.get(name)
        if step is None:
            return preprocess(images, spec, out, linear_to_db=linear_to_db, threads=backend.cores)
        return quantize(images, spec, out, step, linear_to_db=linear_to_db, threads=backend.cores)


def shares(pairs: int, cores: int) -> list[slice]:
    """Deal a batch out to the cores, as evenly as it goes."""
    ends = [pairs * core // cores for core in range(cores + 1)]
    return [slice(first, last) for first, last in pairwise(ends) if first < last]


def parts(share: slice, largest: int) -> Iterator[slice]:
    """Cut a share of a batch into parts, large ones first.

    A part has as many pairs as one of `PART_SIZES`, or one pair less: to run a row too many takes
    no longer than two or three small parts would.
    """
    first = share.start
    while (left := share.stop - first) > 0:
        size = next(size for size in PART_SIZES if size <= min(left + (left > 1), largest))
        yield slice(first, min(first + size, share.stop))
        first += size


def _call(action: Callable[[], object]) -> None:
    try:
        action()
    except RuntimeError as error:
        raise BackendError(f"OpenVINO inference failed: {error}") from error
