"""The preprocessing kernels: the `.cu` source compiled for the CPU against the CPU module and the
oracle, and the layouts it reads; one `gpu` test runs the real kernels.
"""

from __future__ import annotations

import ctypes
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import oracle
from support.fake_gpu import host_kernels
from support.kernel_parts import assert_stats, awkward_patch
from support.tiny import tiny_manifest

from esccs_edge.backends.trt import pixel_kernels as gpu
from esccs_edge.backends.trt.buffers import Allocator, Section
from esccs_edge.backends.trt.memory_budget import MemoryBudget
from esccs_edge.backends.trt.modality_upload import ModalityUpload
from esccs_edge.cuda.driver import Arguments, LaunchShape
from esccs_edge.cuda.owners import Device
from esccs_edge.cuda.probe import probe_driver
from esccs_edge.errors import InputError
from esccs_edge.pixels.preprocess import channel_factors, preprocess

#: One float32 rounding in `physical`, one in each step of `normalize`, against float64.
ORACLE_ATOL = 2e-5


def run_kernel(images, spec, *, max_batch=None):
    """Lay a batch out, run the kernel on the CPU, and read it back as the lane does."""
    shape = next(image.shape for image in images if image is not None)
    pixels = shape[1] * shape[2]
    layout = gpu.RawLayout(max_batch or len(images), shape[0], pixels)
    raw, start = np.full(layout.capacity + 256, 0xAB, np.uint8), 0
    start = -raw.ctypes.data % 256
    raw = raw[start : start + layout.capacity]
    assert layout.fill(raw, images) <= layout.capacity
    out = np.full((len(images), *shape), np.nan, np.float32)
    out = _aligned_like(out)
    stats, other = np.zeros((2, len(images)), gpu.STATS)
    table = np.stack(channel_factors(spec))
    values = gpu.parameters(
        spec,
        pixels,
        raw=raw.ctypes.data,
        out=out.ctypes.data,
        stats=stats.ctypes.data,
        factors=table.ctypes.data,
    )
    launch = gpu.launch_of(shape[0], pixels, len(images))
    host_kernels().host_esccs_preprocess_f32(
        ctypes.c_void_p(values.ctypes.data), *launch.grid, launch.block
    )
    count_shares(stats, other, np.empty((len(images), 2), np.float32), pixels)
    present = [image is not None for image in images]
    return out, gpu.read_stats(stats, present, shape[0], pixels)


def count_shares(optical, sar, shares, pixels):
    """Run the kernel that ends the counting, with room for as many pairs as ``shares`` has rows."""
    values = gpu.availability_parameters(
        [optical.ctypes.data, sar.ctypes.data], shares.ctypes.data, pixels, len(shares)
    )
    host_kernels().host_esccs_availability(ctypes.c_void_p(values.ctypes.data), 1, 1, 128)


def _aligned_like(array):
    block = np.empty(array.nbytes + 256, np.uint8)
    start = -block.ctypes.data % 256
    made = block[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    made[:] = array
    return made


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    height=st.integers(1, 17),
    width=st.sampled_from([1, 7, 8, 16, 31, 64]),
    seed=st.integers(0, 10_000),
    db=st.booleans(),
)
def test_kernel_source_equals_the_cpu_module_on_any_patch(dtype, height, width, seed, db):
    spec = tiny_manifest().modalities["optical"]
    spec = replace(spec, unit="dB", stored_unit="linear") if db else spec
    images = [awkward_patch(dtype, height, width, seed + i, len(spec.channels)) for i in range(2)]
    images.insert(1, None)
    out, stats = run_kernel(images, spec, max_batch=5)
    wanted = np.full(out.shape, np.nan, np.float32)
    wanted_stats = preprocess(images, spec, wanted, threads=1)
    np.testing.assert_array_equal(out, wanted)
    for mine, theirs in zip(stats, wanted_stats, strict=True):
        assert_stats(mine, theirs, canceling=1e-6)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_kernel_source_agrees_with_the_oracle(dtype):
    spec = tiny_manifest().modalities["optical"]
    image = awkward_patch(dtype, 16, 16, 3, 13)
    out, (stats,) = run_kernel([image], spec)
    wanted, numbers = oracle.preprocess(image, spec)
    np.testing.assert_allclose(out[0], wanted, atol=ORACLE_ATOL)
    assert (stats.valid, stats.nonfinite) == (numbers["valid"], numbers["nonfinite"])


def test_all_absent_and_all_nodata_patches_become_zero():
    spec = tiny_manifest().modalities["optical"]
    out, stats = run_kernel([None, np.zeros((13, 8, 8), np.uint16)], spec)
    assert not out.any()
    assert stats[0].pixels == 0 and stats[1].valid == 0 and np.isnan(stats[1].mean)


def test_availability_divides_as_the_cpu_does():
    rng = np.random.default_rng(0)
    rows = np.zeros((2, 50), gpu.STATS)
    rows["valid"] = rng.integers(0, 4097, (2, 50))
    shares = np.full((50, 2), np.nan, np.float32)
    count_shares(*rows, shares, 4096)
    np.testing.assert_array_equal(shares, (rows["valid"].T / 4096).astype(np.float32))


def test_layouts_have_the_sizes_that_the_kernels_assert():
    sizes = [t.itemsize for t in (gpu.PATCH, gpu.STATS, gpu.PARAMS, gpu.AVAILABILITY_PARAMS)]
    assert sizes == [16, 32, 80, 56]


@given(st.integers(1, 96), st.integers(1, 10**6))
def test_launch_fits_every_device(channels, pixels):
    launch = gpu.launch_of(channels, pixels)
    assert launch.block % 32 == 0 and launch.shared_bytes <= 48 * 1024
    assert launch.grid[0] * launch.block * 4 >= pixels


def test_too_many_channels_for_the_kernel_are_refused():
    with pytest.raises(InputError, match="97 channels, the CUDA kernel takes at most 96"):
        gpu.launch_of(97, 100)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_ordered_integers_become_the_floats_they_stand_for(values):
    floats = np.array(values, np.float32)
    bits = floats.view(np.uint32)
    order = np.where(bits & 0x80000000, ~bits, bits | np.uint32(0x80000000)).astype(np.uint32)
    in_order = floats[np.argsort(order, kind="stable")].tolist()
    assert in_order == sorted(values)
    rows = np.zeros((2, len(values)), gpu.STATS)
    rows["lowest"], rows["highest"] = (~order).view(np.float32), order.view(np.float32)
    count_shares(*rows, np.empty((len(values), 2), np.float32), 1)
    for found in (*rows["lowest"], *rows["highest"]):
        np.testing.assert_array_equal(found, floats)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_installed_fatbin_holds_the_kernels():
    content = gpu.load_fatbin()
    assert content[:4] == b"\x50\xed\x55\xba"
    assert len(content) > 50_000


@pytest.mark.gpu
@pytest.mark.skipif(bool(probe_driver().problem), reason=f"no GPU: {probe_driver().problem}")
@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
def test_real_kernel_equals_the_cpu_module(monkeypatch, provider):
    pytest.importorskip({"cuda-python": "cuda.bindings", "pycuda": "pycuda"}[provider])
    monkeypatch.setenv("ESCCS_CUDA", provider)
    spec = tiny_manifest().modalities["optical"]
    for dtype in ("uint8", "uint16", "int16", "float32"):
        for side in (15, 64):
            images = [awkward_patch(dtype, side, side, i, 13) for i in range(4)]
            images.insert(2, None)
            out, stats = on_gpu(images, spec)
            wanted = np.empty(out.shape, np.float32)
            wanted_stats = preprocess(images, spec, wanted)
            np.testing.assert_array_equal(out, wanted)
            for mine, theirs in zip(stats, wanted_stats, strict=True):
                assert_stats(mine, theirs, canceling=1e-6)


def on_gpu(images, spec):
    """A modality's upload alone: copy, kernel, and the input read back."""
    channels, side = images[0].shape[0], images[0].shape[1]
    with Device.open() as device, device.active():
        module = device.module(gpu.load_fatbin())
        make = Allocator(device, MemoryBudget())
        size = gpu.STATS.itemsize * len(images)
        stats, other, rows = device.memory(size), device.memory(size), device.pinned(size)
        rows_there = rows.array.view(gpu.STATS)
        back = device.pinned(4 * channels * side * side * len(images))
        kernel, counts = module.kernel("esccs_preprocess_f32"), Section(stats, 0, rows_there)
        upload = ModalityUpload(
            make, kernel, spec, side * side, counts, max_batch=len(images), mapped=False
        )
        upload.fill(images)
        upload.upload()
        upload.preprocess(len(images))
        shares = device.memory(8 * len(images))
        other.clear(upload.stream)
        values = gpu.availability_parameters(
            [stats.address, other.address], shares.address, side * side, len(images)
        )
        availability = module.kernel("esccs_availability")
        availability.launch(upload.stream, LaunchShape((1, 1), 128), Arguments(values))
        stats.download(rows.array, upload.stream)
        upload.input.download(back.array, upload.stream)
        upload.stream.synchronize()
        out = back.array.view(np.float32).reshape(len(images), channels, side, side).copy()
        return out, upload.read()
