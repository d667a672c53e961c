"""Copies of pixels: equal, apart from the original, and in memory that was there before."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from esccs_edge.contracts.values import PatchPair
from esccs_edge.pixels import pixel_memory
from esccs_edge.pixels.pixel_memory import PixelMemory

UINT16, FLOAT32 = np.dtype(np.uint16), np.dtype(np.float32)


def patch(seed: int = 0, dtype: np.dtype = UINT16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 9000, (3, 8, 8)).astype(dtype)


@pytest.mark.parametrize(
    "pixels",
    [
        patch(),
        patch()[:, ::2, 1:5],
        patch().transpose(0, 2, 1),
        patch().astype(">u2"),
        patch().astype(np.float64),
        np.frombuffer(b"\0" + patch().tobytes(), UINT16, offset=1).reshape(3, 8, 8),
    ],
    ids=["plain", "strided", "transposed", "big-endian", "float64", "unaligned"],
)
def test_a_copy_has_the_same_values_and_its_own_memory(pixels):
    memory = PixelMemory()
    for _ in range(2):  # into fresh and into used memory
        copy = memory.copy(pixels, UINT16)
        np.testing.assert_array_equal(copy, pixels)
        assert copy.dtype == UINT16 and copy.flags.c_contiguous and copy.flags.aligned
        assert not np.shares_memory(copy, pixels)
        memory.release(PatchPair(copy, None))


def test_read_only_pixels_are_copied():
    pixels = patch()
    pixels.flags.writeable = False
    np.testing.assert_array_equal(PixelMemory().copy(pixels, UINT16), pixels)


def test_floats_beyond_the_range_become_infinite_without_a_warning(recwarn):
    copy = PixelMemory().copy(np.full((1, 2, 2), 1e300), FLOAT32)
    assert np.isposinf(copy).all() and not recwarn


def test_memory_given_back_is_used_again_for_its_kind_alone():
    memory = PixelMemory()
    optical, sar = memory.copy(patch(1), UINT16), memory.copy(patch(1), FLOAT32)
    memory.release(PatchPair(optical, sar))
    assert not np.shares_memory(memory.copy(patch(2)[:, :4], UINT16), optical)
    assert memory.copy(patch(3), FLOAT32) is sar
    assert memory.copy(patch(4), UINT16) is optical
    np.testing.assert_array_equal(optical, patch(4))
    assert memory.copy(patch(5), UINT16) is not optical


def test_cleared_memory_is_not_used_again():
    memory = PixelMemory()
    copy = memory.copy(patch(), UINT16)
    memory.release(PatchPair(copy, None))
    memory.clear()
    assert memory.copy(patch(), UINT16) is not copy


def test_no_more_is_kept_than_allowed(monkeypatch):
    monkeypatch.setattr(pixel_memory, "KEPT_BYTES", 3 * patch().nbytes)
    memory = PixelMemory()
    copies = [memory.copy(patch(), UINT16) for _ in range(5)]
    for copy in copies:
        memory.release(PatchPair(copy, None))
    again = [memory.copy(patch(), UINT16) for _ in range(5)]
    assert sum(any(one is other for other in copies) for one in again) == 3


def test_threads_never_share_a_copy():
    memory = PixelMemory()
    mixed = []

    def work(number: int) -> None:
        pixels = np.full((3, 32, 32), number, np.uint16)
        for _ in range(300):
            copy = memory.copy(pixels, UINT16)
            mixed.extend(copy[copy != number])
            memory.release(PatchPair(copy, None))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not mixed
