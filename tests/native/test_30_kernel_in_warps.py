"""The preprocessing kernel with real warps and shared memory, on CPU threads under sanitizers.

They stand in for compute-sanitizer where there is no GPU: bounds and alignment of every access, and
races within a block.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.host_compiler import compiled
from support.kernel_parts import assert_stats, awkward_patch
from support.tiny import tiny_manifest

from esccs_edge.backends.trt import pixel_kernels as gpu
from esccs_edge.pixels.preprocess import preprocess

SANITIZERS = {"bounds": "address,undefined", "races": "thread"}


@functools.cache
def program(check: str, racy: bool = False) -> Path:
    """The kernel compiled for the CPU with one kind of checks; ``racy``: with a fault to find."""
    sanitizer = [f"-fsanitize={SANITIZERS[check]}", "-fno-sanitize-recover=all"]
    options = ["-g", "-pthread", *sanitizer, *["-DRACY"] * racy]
    try:
        return compiled("kernel_in_warps.cpp", Path(tempfile.mkdtemp()) / "kernel", *options)
    except AssertionError as error:
        if "cannot find -l" in str(error) or "cannot find /" in str(error):
            pytest.skip("this g++ comes without the sanitizer's library")
        raise


def run(check, images, spec, *, cut=0, racy=False):
    """Run the kernel over a batch; ``cut`` bytes are missing at the end of the raw pixels."""
    channels, *sides = next(image.shape for image in images if image is not None)
    pixels, batch = sides[0] * sides[1], len(images)
    layout = gpu.RawLayout(batch, (channels,), pixels)
    raw = np.zeros(layout.capacity, np.uint8)
    used, (sizes,) = layout.fill(raw, [images], batch)
    used -= cut
    values = gpu.parameters([spec], pixels, raw=0, out=[0], counts=[0], done=0, availability=0)
    block, shared_bytes = gpu.block_of(channels)
    tiles = gpu.tiles_of(pixels, block, max(sizes))
    values["of"]["tiles"][0] = tiles
    numbers = np.array([used, tiles, batch, block, shared_bytes], np.int64)
    done = subprocess.run(
        [program(check, racy)],
        input=values.tobytes() + numbers.tobytes() + raw[:used].tobytes(),
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        timeout=120,  # a warp of which a thread is missing would wait for ever
    )
    if done.returncode:
        words = done.stderr.decode(errors="replace")
        if "unexpected memory mapping" in words:
            pytest.skip("this sanitizer does not know this kernel's layout of memory")
        raise RuntimeError(words)
    size = 4 * batch * channels * pixels
    out = np.frombuffer(done.stdout[:size], np.float32).reshape(batch, channels, *sides)
    rows = np.frombuffer(done.stdout[size : -4 * batch], gpu.STATS)
    shares = np.frombuffer(done.stdout[-4 * batch :], np.float32)
    np.testing.assert_array_equal(shares, (rows["valid"] / pixels).astype(np.float32))
    return out, gpu.read_stats(rows, sizes, channels, pixels)


@pytest.mark.parametrize("check", SANITIZERS)
@pytest.mark.parametrize("side", [15, 64])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_whole_warps_give_what_the_cpu_module_gives(check, dtype, side):
    """15: pixels one by one, and threads without any; 64: several blocks a patch."""
    spec = tiny_manifest().modalities["optical"]
    spec = replace(spec, unit="dB", stored_unit="linear") if dtype == "float32" else spec
    images = [awkward_patch(dtype, side, side, 5, 13), None]
    out, stats = run(check, images, spec)
    wanted = np.empty(out.shape, np.float32)
    wanted_stats = preprocess(images, spec, wanted, threads=1)
    np.testing.assert_array_equal(out, wanted)
    for mine, theirs in zip(stats, wanted_stats, strict=True):
        assert_stats(mine, theirs)


def test_a_read_beyond_the_pixels_would_be_seen():
    images = [awkward_patch("uint16", 16, 16, 5, 13)]
    with pytest.raises(RuntimeError, match="heap-buffer-overflow"):
        run("bounds", images, tiny_manifest().modalities["optical"], cut=2)


def test_a_race_would_be_seen():
    images = [awkward_patch("uint16", 64, 64, 5, 13)]
    with pytest.raises(RuntimeError, match="data race"):
        run("races", images, tiny_manifest().modalities["optical"], racy=True)
