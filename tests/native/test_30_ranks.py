"""Ranks and steps of each band, against sorting; and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esccs_edge import _preprocess_cpu

DTYPES = (np.uint8, np.uint16, np.int16, np.float32)


def ranks(images, places, order, stepped=-1, scale=1.0, offset=0.0):
    table = np.full((len(images), len(order), len(places)), np.nan)
    steps = np.full(len(images), np.nan)
    _preprocess_cpu.ranks(images, places, np.array(order), stepped, scale, offset, table, steps)
    return table, steps


@pytest.fixture(params=_preprocess_cpu.instruction_sets())
def instructions(request):
    _preprocess_cpu.use(request.param)
    yield
    _preprocess_cpu.use(_preprocess_cpu.instruction_sets()[0])


@settings(max_examples=200)
@given(
    instructions=st.sampled_from(_preprocess_cpu.instruction_sets()),
    dtype=st.sampled_from(DTYPES),
    count=st.integers(1, 300),
    seed=st.integers(0, 9999),
    levels=st.integers(1, 400),
)
def test_ranks_are_those_of_sorted_values(instructions, dtype, count, seed, levels):
    """Few levels give ties, many give none; the whole range of each type is drawn from."""
    rng = np.random.default_rng(seed)
    if dtype is np.float32:
        drawn = rng.choice(rng.normal(0, 10.0 ** rng.integers(-5, 5), levels), (3, 1, count))
    else:
        limits = np.iinfo(dtype)
        drawn = rng.choice(rng.integers(limits.min, limits.max + 1, levels), (3, 1, count))
    image = drawn.astype(dtype)
    order = sorted({0, count // 10, count // 2, count - 1})
    _preprocess_cpu.use(instructions)
    try:
        table, steps = ranks([image], np.arange(3 * count).reshape(3, count), order, stepped=1)
    finally:
        _preprocess_cpu.use(_preprocess_cpu.instruction_sets()[0])
    np.testing.assert_array_equal(table[0], np.sort(image[:, 0], axis=1)[:, order].T)
    found = np.unique(image[1].astype(np.float32))
    assert steps[0] == (np.diff(found).min() if len(found) > 2 else 0)


def test_integers_are_in_the_unit_and_floats_as_they_are(instructions):
    dn = np.array([1000, 1003, 1010, 1200], np.uint16).reshape(1, 1, 4)
    images = [dn, None, dn.astype(np.float32)]
    table, steps = ranks(images, np.arange(4)[None], [0, 3], 0, scale=1e-4, offset=-1000.0)
    assert table[0].ravel().tolist() == [0.0, pytest.approx(0.02)]
    assert table[2].ravel().tolist() == [1000.0, 1200.0]
    assert np.isnan(table[1]).all()
    assert steps[0] == pytest.approx(3e-4) and steps[2] == 3


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    ("places", "order", "rows", "words"),
    [
        (np.array([[0, 12]]), [0], 1, "outside"),
        (np.array([[-1, 2]]), [0], 1, "outside"),
        (np.zeros((1, 2000), np.int64), [0], 1, "too many"),
        (np.zeros((1, 4), np.int64), list(range(9)), 1, "too many"),
        (np.zeros((1, 4), np.int64), [4], 1, "rank"),
        (np.zeros((1, 4), np.int64), [0], 0, "row"),
    ],
)
def test_what_does_not_fit_is_refused(places, order, rows, words):
    image = np.zeros((1, 3, 4), np.uint16)
    table, steps = np.zeros((rows, len(order), 1)), np.zeros(rows)
    with pytest.raises(ValueError, match=words):
        _preprocess_cpu.ranks([image], places, np.array(order), -1, 1.0, 0.0, table, steps)
