"""Preprocessing against the fastest thing a processor can do with as many bytes: copy them.

Run: pytest tests/benchmarks/test_preprocess_speed.py --benchmark-enable. The suite runs each body
once and holds the ratio, with much slack, since other work on the host takes from both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
from tiny import tiny_manifest

from esccs_edge import _preprocess_cpu
from esccs_edge.preprocess import preprocess

PATCH = 256
ROUNDS = 25
#: Share of the rate of a copy (bytes read and written per second of one thread), of which vector
#: code reaches at least twice as much; scalar code reaches less.
LEAST_SHARE = 0.25

CHANNELS = {np.uint16: 13, np.float32: 2}
MANIFEST = tiny_manifest(PATCH)
HAS_VECTORS = _preprocess_cpu.instruction_sets()[0] != "baseline"


def raw_images(dtype: type, batch: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return a batch as it is stored, inside the clip range, and where it goes.

    The output starts on a cache line, as the tensors of a lane do.
    """
    rng = np.random.default_rng(0)
    low, high = (200, 6000) if dtype is np.uint16 else (-34, -1)
    shape = (CHANNELS[dtype], PATCH, PATCH)
    image = rng.uniform(low, high, shape).astype(dtype)
    memory = np.ones(4 * batch * image.size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    out = memory[start : start + 4 * batch * image.size].view(np.float32)
    return [image.copy() for _ in range(batch)], out.reshape(batch, *shape)


def two_halves(dtype: type, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return source and target of a copy that moves as many bytes as preprocessing does."""
    moved = batch * CHANNELS[dtype] * PATCH * PATCH * (np.dtype(dtype).itemsize + 4)
    return np.ones(moved // 2, np.uint8), np.ones(moved // 2, np.uint8)


def seconds(call: Callable[[], object]) -> float:
    """Time on the processor of this thread, so that waiting for others does not count."""
    start = time.thread_time()
    call()
    return time.thread_time() - start


def share_of_copy(dtype: type) -> float:
    """Return the median over rounds in which both run one after the other, each once to warm up."""
    images, out = raw_images(dtype, 1)
    spec = MANIFEST.optical if dtype is np.uint16 else MANIFEST.sar
    source, target = two_halves(dtype, 1)
    shares = []
    for _ in range(ROUNDS):
        for _ in range(2):
            ours = seconds(lambda: preprocess(images, spec, out, threads=1))
        for _ in range(2):
            copy = seconds(lambda: np.copyto(target, source))
        shares.append(copy / ours)
    return statistics.median(shares)


@pytest.mark.parametrize("threads", [1, None])
@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_preprocess(benchmark, dtype, batch, threads):
    images, out = raw_images(dtype, batch)
    spec = MANIFEST.optical if dtype is np.uint16 else MANIFEST.sar
    stats = benchmark(preprocess, images, spec, out, threads=threads)
    assert all(seen.valid == PATCH * PATCH for seen in stats)


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_copy_of_as_many_bytes(benchmark, dtype, batch):
    source, target = two_halves(dtype, batch)
    benchmark(np.copyto, target, source)
    assert (target == source).all()


@pytest.mark.skipif(not HAS_VECTORS, reason="the share is known for AVX2 and AVX-512 only")
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_preprocessing_is_not_far_from_a_copy(dtype):
    shares = [share_of_copy(dtype)]
    while shares[-1] < LEAST_SHARE and len(shares) < 3:  # another tenant of the memory, perhaps
        shares.append(share_of_copy(dtype))
    assert max(shares) >= LEAST_SHARE
