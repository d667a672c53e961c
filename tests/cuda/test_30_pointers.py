"""Whose memory an address is: what the driver answers, and what is refused before a kernel runs."""

from __future__ import annotations

import ctypes

import pytest
from support.fake_gpu import Block, FakeDriver
from support.tiny import checked_pair
from support.trt_machine import Machine, assert_same, cpu_answer, host_pairs

from esccs_edge.cuda.device import Device
from esccs_edge.cuda.pointers import Pointer, PointerCheck, query_pointer
from esccs_edge.errors import InputError


class Library:
    """``cuPointerGetAttributes`` as ctypes sees it; allocations are (start, size, answers)."""

    def __init__(self, *allocations, status=0):
        self.allocations, self.status = allocations, status

    def cuPointerGetAttributes(self, count, asked, targets, address):
        kinds = {2: ctypes.c_uint, 8: ctypes.c_uint, 9: ctypes.c_int, 11: ctypes.c_uint64}
        for number, target in zip(list(asked), list(targets), strict=True):
            kinds.get(number, ctypes.c_size_t).from_address(target).value = 0
        for start, size, answers in self.allocations:
            if start <= address.value < start + size:
                found = {2: 2, 8: 0, 9: 0, 11: start, 12: size, **answers}
                for number, target in zip(list(asked), list(targets), strict=True):
                    kind = kinds.get(number, ctypes.c_size_t)
                    kind.from_address(target).value = found[number]
        return self.status


@pytest.mark.parametrize(
    "answers, found",
    [
        ({9: 3}, Pointer(True, 3, 4096, 64)),
        ({2: 1, 9: 3}, Pointer(True, None, 4096, 64)),  # pinned host memory
        ({8: 1, 9: 3}, Pointer(True, None, 4096, 64)),  # managed memory
        ({2: 3}, Pointer(False)),  # an array for textures
    ],
)
def test_what_the_driver_says_of_an_address(answers, found):
    library = Library((4096, 64, answers))
    assert query_pointer(library, 4096) == query_pointer(library, 4159) == found
    assert query_pointer(library, 4160) == Pointer(False)
    assert query_pointer(Library((4096, 64, answers), status=201), 4096) == Pointer(False)


def check_over(*allocations, ordinal=0):
    asked = []

    def ask(address):
        asked.append(address)
        return query_pointer(Library(*allocations), address)

    return PointerCheck(ask, ordinal), asked


def test_pixels_of_one_allocation_are_asked_about_once():
    check, asked = check_over((4096, 1000, {}), (8192, 10, {}))
    for start in (4096, 4196, 4996):
        check.require(start, 100, "optical")
    check.require(8192, 10, "SAR")
    assert asked == [4096, 8192]


def test_memory_that_grew_by_parts_is_read_across_them():
    check, _ = check_over((4096, 100, {}), (4196, 100, {}), (4300, 100, {}))
    check.require(4096, 200, "optical")
    with pytest.raises(InputError, match="of which 50 are no allocated memory"):
        check.require(4096, 250, "optical")


def test_memory_of_another_gpu_is_refused_and_of_anyone_is_not():
    check, _ = check_over((4096, 100, {9: 1}), (8192, 100, {9: 1, 8: 1}))
    with pytest.raises(InputError, match="lies on GPU 1, the model runs on GPU 0.*device=1"):
        check.require(4096, 100, "SAR")
    check.require(8192, 100, "SAR")
    check, _ = check_over((4096, 100, {9: 1}), ordinal=1)
    check.require(4096, 100, "SAR")


class OnGpu:
    def __init__(self, array, ordinal=0, short=0):
        self.block = Block(array.nbytes - short, "device", ordinal)
        self.__cuda_array_interface__ = {
            "typestr": array.dtype.str, "shape": array.shape, "version": 3, "strides": None,
            "data": (self.block.array.ctypes.data, True), "stream": None,
        }  # fmt: skip


@pytest.mark.parametrize(
    "wrong, words",
    [({"ordinal": 1}, "optical lies on GPU 1"), ({"short": 2}, "of which 2 are no allocated")],
)
def test_no_kernel_is_sent_to_memory_it_cannot_read(monkeypatch, tmp_path, wrong, words):
    machine = Machine(monkeypatch, tmp_path)
    backend = machine.open()
    lane = backend.open_lane()
    (pair,) = host_pairs(machine.manifest, 1)
    bad = checked_pair(OnGpu(pair.optical, **wrong), OnGpu(pair.sar), machine.manifest)
    machine.driver.log.clear()
    with pytest.raises(InputError, match=words):
        lane.start([bad])
    assert set(machine.driver.log) == {"pointer"}
    assert_same(lane.answer([pair]), cpu_answer(tmp_path / "bundle", [pair]))
    backend.close()


def test_nothing_is_remembered_from_one_batch_to_the_next(monkeypatch, tmp_path):
    machine = Machine(monkeypatch, tmp_path)
    backend = machine.open()
    lane = backend.open_lane()
    (pair,) = host_pairs(machine.manifest, 1)
    there = checked_pair(OnGpu(pair.optical), None, machine.manifest)
    lane.answer([there])
    Block.known.clear()  # as if all were freed behind our back
    with pytest.raises(InputError, match="no allocated memory"):
        lane.answer([there])
    backend.close()


def test_device_opens_with_its_ordinal(monkeypatch):
    from esccs_edge.cuda import device

    monkeypatch.setattr(device, "open_driver", lambda ordinal: FakeDriver())
    assert (Device.open().ordinal, Device.open(3).ordinal) == (0, 3)
