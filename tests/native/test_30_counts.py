"""What the CUDA kernel counted, turned into `PixelStats`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from esccs_edge import _preprocess_cpu
from esccs_edge.backends.trt.pixel_kernels import STATS, read_stats
from esccs_edge.contracts.values import ABSENT, PixelStats

ROWS = np.array(
    [(90, 5, 7, 2**32 - 1, -0.5, 1.25, 135.0), (0, 100, 0, 0, 0, 0, 0), (1, 2, 3, 4, 5, 6, 7)],
    STATS,
)


def test_rows_become_statistics_in_physical_units():
    seen, empty = read_stats(ROWS, b"\1\4", channels=3, pixels=100)
    assert seen == PixelStats(100, 90, 5, 7, 2**32 - 1, -0.5, 1.25, 135.0 / (90 * 3))
    assert type(seen) is PixelStats and hash(seen) == hash(PixelStats(*seen))
    assert empty[:5] == (100, 0, 100, 0, 0) and all(map(math.isnan, empty[5:]))


def test_absent_patches_have_no_statistics_and_rows_after_the_patches_are_left_out():
    assert [stats is ABSENT for stats in read_stats(ROWS, b"\0\1", 3, 100)] == [True, False]
    assert read_stats(ROWS, b"", 3, 100) == []


def test_statistics_outlive_what_they_were_read_from():
    rows = ROWS.copy()
    (seen,) = read_stats(rows, b"\2", 3, 100)
    rows[:] = 0
    assert seen.valid == 90


def test_more_patches_than_rows_are_refused():
    with pytest.raises(ValueError, match="fewer rows than patches"):
        read_stats(ROWS, b"\1" * 4, 3, 100)


def test_a_class_that_is_no_tuple_is_refused():
    with pytest.raises(TypeError, match="class of tuples"):
        _preprocess_cpu.read_counts(ROWS.tobytes(), b"\1", 3, 100, list, [])
