"""Patches gathered in one buffer: the table, the pixels, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from esccs_edge import _preprocess_cpu
from esccs_edge.backends.trt.pixel_kernels import PATCH, RawLayout

DTYPES = (np.uint8, np.uint16, np.int16, np.float32)


def patches(count, side):
    """Patches of all types in turn, every fifth absent."""
    rng = np.random.default_rng(count)
    made = [rng.integers(0, 200, (13, side, side)).astype(DTYPES[i % 4]) for i in range(count)]
    return [None if i % 5 == 3 else patch for i, patch in enumerate(made)]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count, side", [(1, 16), (9, 15), (60, 128)])
@pytest.mark.parametrize("padding", [0, 3])
def test_gather_writes_where_each_patch_starts(count, side, threads, padding):
    """The last is 27 MB, which every thread takes a part of."""
    modalities, rows = [patches(count, side), patches(count, side)[::-1]], count + padding
    layout = RawLayout(rows, (13, 13), side * side)
    buffer = np.full(layout.capacity, 0xAB, np.uint8)
    used, sizes = _preprocess_cpu.gather(modalities, rows, buffer, layout.header_bytes, threads)
    table = buffer[: 2 * rows * PATCH.itemsize].view(PATCH).reshape(2, rows)
    end = layout.header_bytes
    for entries, images, itemsizes in zip(table, modalities, sizes, strict=True):
        assert not entries[count:].tobytes().strip(b"\0")
        assert list(itemsizes) == [0 if image is None else image.itemsize for image in images]
        for (offset, code, present), image in zip(entries[:count].tolist(), images, strict=True):
            assert present == (image is not None)
            if image is None:
                continue
            assert offset == end and offset % 16 == 0 and DTYPES[code] == image.dtype
            stored = buffer[offset : offset + image.nbytes].view(image.dtype).reshape(image.shape)
            np.testing.assert_array_equal(stored, image)
            end += -(-image.nbytes // 16) * 16
    assert used == end
    assert (buffer[used:] == 0xAB).all()


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    "rows, size, start, dtype, words",
    [
        (3, 1000, 64, np.uint16, "too small"),
        (3, 10_000, 16, np.uint16, "table"),
        (5, 10_000, 64, np.uint16, "table"),
        (3, 10_000, 64, np.float64, "uint8, uint16, int16 or float32"),
        (3, 10_000, 20_000, np.uint16, "table"),
        (2, 10_000, 64, np.uint16, "more patches than rows"),
        (-1, 10_000, 64, np.uint16, "more patches than rows"),
    ],
)
def test_what_does_not_fit_is_refused(rows, size, start, dtype, words):
    images = [np.zeros((3, 8, 8), dtype)] * 3
    with pytest.raises(ValueError, match=words):
        _preprocess_cpu.gather([images], rows, np.zeros(size, np.uint8), start, 1)


def test_a_buffer_in_pieces_is_refused():
    """The binding would fill a copy, and the pixels would be lost with it."""
    with pytest.raises(TypeError):
        _preprocess_cpu.gather(
            [[np.zeros((3, 8, 8), np.uint16)]], 1, np.zeros(9000, np.uint8)[::2], 64, 1
        )
