"""Preprocessing against the fastest thing a processor can do with as many bytes: copy them.

Run: pytest tests/benchmarks/test_preprocess_speed.py --benchmark-enable. The suite runs each body
once and holds the ratio, with much slack, since other work on the host takes from both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from support.tiny import tiny_manifest

from esccs_edge import _preprocess_cpu
from esccs_edge.pixels.preprocess import preprocess

PATCH = 256
ROUNDS = 25
CHANNELS = {np.uint16: 13, np.float32: 2}
#: Share of the rate of a copy (bytes read and written per second of one thread). Vector code
#: reaches at least twice as much; scalar code reaches less. Bytes are fewer and more work each.
LEAST_SHARE = {"float32": 0.25, "bytes": 0.08}

MANIFEST = tiny_manifest(PATCH)
HAS_VECTORS = _preprocess_cpu.instruction_sets()[0] != "baseline"

kernels = pytest.mark.parametrize("kernel", LEAST_SHARE)
dtypes = pytest.mark.parametrize("dtype", CHANNELS)
batches = pytest.mark.parametrize("batch", [1, 32])


def itemsize(kernel: str) -> int:
    """Return the bytes that are written for each number."""
    return 4 if kernel == "float32" else 1


def call(kernel: str, dtype: type, batch: int) -> Callable[..., object]:
    """Return the kernel over a batch as it is stored, inside the clip range.

    The output starts on a cache line, as the tensors of a lane do.
    """
    rng = np.random.default_rng(0)
    low, high = (200, 6000) if dtype is np.uint16 else (-34, -1)
    channels = CHANNELS[dtype]
    image = rng.uniform(low, high, (channels, PATCH, PATCH)).astype(dtype)
    images = [image.copy() for _ in range(batch)]
    spec = MANIFEST.modalities["optical"] if dtype is np.uint16 else MANIFEST.modalities["sar"]
    count = itemsize(kernel) * batch * image.size
    memory = np.ones(count + 64, np.uint8)
    start = -memory.ctypes.data % 64
    out = memory[start : start + count]
    if kernel == "float32":
        return partial(preprocess, images, spec, out.view(np.float32).reshape(batch, *image.shape))
    return partial(preprocess, images, spec, out.reshape(batch, PATCH, PATCH, channels), step=0.04)


def copy(kernel: str, dtype: type, batch: int) -> Callable[..., object]:
    """Return a copy that moves as many bytes as the kernel does."""
    numbers = batch * CHANNELS[dtype] * PATCH * PATCH
    half = numbers * (np.dtype(dtype).itemsize + itemsize(kernel)) // 2
    return partial(np.copyto, np.ones(half, np.uint8), np.ones(half, np.uint8))


def seconds(action: Callable[[], object]) -> float:
    """Time on the processor of this thread, so that waiting for others does not count."""
    start = time.thread_time()
    action()
    return time.thread_time() - start


def share_of_copy(kernel: str, dtype: type) -> float:
    """Return the median over rounds in which both run one after the other, each once to warm up."""
    ours, theirs = partial(call(kernel, dtype, 1), threads=1), copy(kernel, dtype, 1)
    shares = []
    for _ in range(ROUNDS):
        (_, mine), (_, other) = ([seconds(action) for _ in range(2)] for action in (ours, theirs))
        shares.append(other / mine)
    return statistics.median(shares)


@pytest.mark.parametrize("threads", [1, None])
@batches
@dtypes
@kernels
def test_kernel(benchmark, kernel, dtype, batch, threads):
    stats = benchmark(call(kernel, dtype, batch), threads=threads)
    assert all(seen.valid == PATCH * PATCH for seen in stats)


@batches
@dtypes
@kernels
def test_copy_of_as_many_bytes(benchmark, kernel, dtype, batch):
    benchmark(copy(kernel, dtype, batch))


@pytest.mark.skipif(not HAS_VECTORS, reason="the share is known for AVX2 and AVX-512 only")
@dtypes
@kernels
def test_preprocessing_is_not_far_from_a_copy(kernel, dtype):
    least = LEAST_SHARE[kernel]
    shares = [share_of_copy(kernel, dtype)]
    while shares[-1] < least and len(shares) < 3:  # another tenant of the memory, perhaps
        shares.append(share_of_copy(kernel, dtype))
    assert max(shares) >= least
