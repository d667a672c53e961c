"""A lane of the CPU backend: how a batch is cut, preprocessed and dealt out to the cores.

A single sample runs in the thread that asks for it, on all cores. A larger batch is cut into parts
that run one on each core, since cores that work on the same small layers wait for each other at the
end of every one. A part is preprocessed into one of a few slots and started while the next is read;
so its pixels are still in the cache when the network comes to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ...contracts.manifest import Manifest
from ...contracts.tensor import Tensor
from ...contracts.types import Array
from ...contracts.values import PixelStats, Sample
from ...errors import BackendError
from ...pixels.preprocess import preprocess
from ...system.forked_child import keep_in_children
from ..base import Lane, LaneOutput
from .compiled import CompiledModels
from .openvino import ov

#: Sizes of a part. Small patches are a third faster in parts of sixteen than one by one.
PART_SIZES = (16, 8, 4, 2, 1)

#: Pixels from which a part gains nothing by being larger, while a core waits until it is read.
PART_PIXELS = 16 * 64**2

#: Slots beyond one for each core: one is read, and one is ready when a core has done its part.
SPARE_SLOTS = 2

#: Part of a single sample.
_SINGLE = slice(0, 1)

#: What preprocessing saw in some samples, by modality.
_Seen = dict[str, list[PixelStats]]


class CpuLane(Lane):
    """Slots for the parts of one batch, and its outputs."""

    def __init__(self, models: CompiledModels, manifest: Manifest, max_batch: int) -> None:
        self._models = models
        self._manifest = manifest
        self._largest_part = _largest_part(manifest, max_batch)
        self._slots = [Slot(models, manifest, self._largest_part)]
        self._idle = self._slots.copy()  # the one used last is taken first: the cache holds it
        self._under_way: list[tuple[Any, Slot, slice]] = []  # with the request of each part
        self._outputs: dict[str, Array] = {}  # of the batch under way; the caller gets them
        self._batch: Sequence[Sample] = ()
        self._seen: _Seen = {}

    def start(self, batch: Sequence[Sample]) -> None:
        """Preprocess a batch and start its parts; a single sample waits for `finish`."""
        self._reset()
        self._batch = batch
        if len(batch) == 1:
            return
        self._outputs = self._zeros(len(batch))
        for part in self._parts():
            slot = self._free_slot()
            if self._preprocess(slot, part):
                request = slot.request(part.stop - part.start)
                # Noted first: whatever interrupts this, no buffer is freed under a request.
                self._under_way.append((request, slot, part))
                _call(request.start_async)
            else:
                self._idle.append(slot)

    def finish(self) -> LaneOutput:
        """Wait for the parts of the batch, or do all for a single sample."""
        if len(self._batch) == 1:
            outputs = self._run_single(self._slots[0])
        elif (error := self._settle()) is not None:
            raise error
        else:
            outputs = self._outputs
        self._batch = ()
        return LaneOutput(outputs, self._seen)

    def preprocess_only(self, batch: Sequence[Sample]) -> None:
        """Preprocess a batch without running the network, for timing."""
        self._reset()
        self._batch = batch
        for part in self._parts():
            slot = self._free_slot()
            self._preprocess(slot, part)
            self._idle.append(slot)

    def close(self) -> None:
        """Wait for what runs, then free the buffers."""
        self._reset()
        self._slots.clear()
        self._idle.clear()

    def _run_single(self, slot: Slot) -> dict[str, Array]:
        if not self._preprocess(slot, _SINGLE):
            return self._zeros(1)
        request = slot.request(1, single=True)
        with self._models.turn:
            _call(request.infer)
        return {name: slot.arrays[name][:1].copy() for name in self._manifest.returned}

    def _zeros(self, rows: int) -> dict[str, Array]:
        """Return outputs of samples without a valid pixel."""
        tensors = self._manifest.returned.items()
        return {name: np.zeros((rows, *tensor.row), tensor.dtype) for name, tensor in tensors}

    def _parts(self) -> Iterator[slice]:
        for share in shares(len(self._batch), self._models.cores):
            yield from parts(share, self._largest_part)

    def _free_slot(self) -> Slot:
        if not self._idle:
            if len(self._slots) < self._models.cores + SPARE_SLOTS:
                self._slots.append(Slot(self._models, self._manifest, self._largest_part))
                return self._slots[-1]
            if (error := self._end(0)) is not None:
                raise error
        return self._idle.pop()

    def _preprocess(self, slot: Slot, part: slice) -> bool:
        """Preprocess samples of the batch into a slot; return whether they have any pixels."""
        seen = slot.preprocess(self._batch[part])
        for name, stats in seen.items():
            self._seen[name].extend(stats)
        return any(one.valid for stats in seen.values() for one in stats)

    def _end(self, number: int) -> BackendError | None:
        """Wait for one of the parts under way and keep its outputs; return its error, if any."""
        request, slot, part = self._under_way[number]
        failed: BackendError | None = None
        try:
            _call(request.wait)
            self._keep(slot, part)
        except BackendError as error:
            failed = error
        del self._under_way[number]
        self._idle.append(slot)
        return failed

    def _keep(self, slot: Slot, part: slice) -> None:
        for name, values in self._outputs.items():
            values[part] = slot.arrays[name][: part.stop - part.start]

    def _settle(self) -> BackendError | None:
        """Wait for all parts under way; return the error of any."""
        failed: BackendError | None = None
        while self._under_way:
            # The newest first: once it is done the others mostly are, so the thread wakes once.
            failed = self._end(-1) or failed
        return failed

    def _reset(self) -> None:
        """Wait for what runs; neither its outputs nor its error are wanted any more."""
        self._settle()
        self._idle = self._slots.copy()
        self._batch = ()
        self._seen = {name: [] for name in self._manifest.modalities}


class Slot:
    """Buffers for one part, and the OpenVINO requests that read them.

    Attributes:
        arrays: Inputs and outputs of the network by name, a row for each sample.
    """

    def __init__(self, models: CompiledModels, manifest: Manifest, rows: int) -> None:
        keep_in_children(self)
        self._models = models
        self._specs = manifest.modalities
        self._availability = manifest.availability
        self._steps = models.get(1, single=True).steps
        self._requests: dict[tuple[int, bool], Any] = {}
        tensors = (manifest.inputs | manifest.returned).values()
        # Allocated by OpenVINO, whose kernels like its own alignment.
        self._tensors = {tensor.name: _allocate(tensor, rows, self._steps) for tensor in tensors}
        self.arrays = {name: tensor.data for name, tensor in self._tensors.items()}
        for array in self.arrays.values():
            array[:] = 0  # a part may be run with a row more than it has

    def preprocess(self, samples: Sequence[Sample]) -> _Seen:
        """Preprocess samples into the first rows; return what was seen."""
        seen = {
            name: preprocess(
                [sample.pixels[name] for sample in samples],
                spec,
                self.arrays[name],
                step=self._steps.get(name),
                threads=self._models.cores,
            )
            for name, spec in self._specs.items()
        }
        self.arrays[self._availability][: len(samples)] = [
            [one.availability for one in row] for row in zip(*seen.values(), strict=True)
        ]
        return seen

    def request(self, samples: int, *, single: bool = False) -> Any:
        """Return the OpenVINO request over the first rows, made once: binding takes long.

        Args:
            samples: Rows in use; the request may take one more.
            single: It runs on all cores, instead of one.
        """
        size = min(size for size in PART_SIZES if size >= samples)
        request = self._requests.get((size, single))
        if request is None:
            request = self._models.get(size, single=single).compiled.create_infer_request()
            for name, array in self.arrays.items():
                request.set_tensor(name, ov.Tensor(array[:size], shared_memory=True))
            self._requests[size, single] = request
        return request


def shares(samples: int, cores: int) -> list[slice]:
    """Deal a batch out to the cores, as evenly as it goes."""
    ends = [samples * core // cores for core in range(cores + 1)]
    return [slice(first, last) for first, last in pairwise(ends) if first < last]


def parts(share: slice, largest: int) -> Iterator[slice]:
    """Cut a share of a batch into parts, large ones first.

    A part has as many samples as one of `PART_SIZES`, or one less: to run a row too many takes no
    longer than two or three small parts would.
    """
    first = share.start
    while (left := share.stop - first) > 0:
        size = next(size for size in PART_SIZES if size <= min(left + (left > 1), largest))
        yield slice(first, min(first + size, share.stop))
        first += size


def _largest_part(manifest: Manifest, max_batch: int) -> int:
    pixels = math.prod(manifest.sample.grid)
    fitting = (n for n in PART_SIZES if n <= max_batch and n * pixels <= PART_PIXELS)
    return next(fitting, 1)


def _allocate(tensor: Tensor, rows: int, steps: Mapping[str, float]) -> ov.Tensor:
    if tensor.name in steps:
        channels, height, width = tensor.row
        return ov.Tensor(ov.Type.u8, ov.Shape([rows, height, width, channels]))
    kind = ov.Type.u8 if tensor.dtype == "uint8" else ov.Type.f32
    return ov.Tensor(kind, ov.Shape([rows, *tensor.row]))


def _call(action: Callable[[], object]) -> None:
    try:
        action()
    except RuntimeError as error:
        raise BackendError(f"OpenVINO inference failed: {error}") from error
