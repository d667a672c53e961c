"""The preprocessing kernel: the `.cu` source compiled for the CPU against the CPU module and the
oracle, and the layouts it reads; one `gpu` test runs the real kernel.
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
from esccs_edge.backends.trt.buffers import Allocator, Results
from esccs_edge.backends.trt.memory_budget import MemoryBudget
from esccs_edge.backends.trt.pixel_upload import PixelUpload
from esccs_edge.contracts.values import Sample
from esccs_edge.cuda.device import Device
from esccs_edge.cuda.fatbin import images_of
from esccs_edge.cuda.probe import probe_driver
from esccs_edge.errors import InputError
from esccs_edge.pixels.preprocess import preprocess

#: One float32 rounding in `physical`, one in each step of `normalize`, against float64.
ORACLE_ATOL = 2e-5


def run_kernel(images, spec, *, max_batch=None):
    """Lay a batch of one modality out, run the kernel on the CPU, read it back as the lane does."""
    ((out, stats),), _ = run_kernels([images], [spec], max_batch=max_batch)
    return out, stats


def run_kernels(images, specs, *, max_batch=None, rounds=2):
    """Run the kernel over patches of several modalities, and again over the same counters.

    Returns the pixels and counts of each modality, and the shares of valid pixels.
    """
    batch = len(images[0])
    shapes = [next(image.shape for image in mine if image is not None) for mine in images]
    channels, pixels = [shape[0] for shape in shapes], shapes[0][1] * shapes[0][2]
    layout = gpu.RawLayout(max_batch or batch, tuple(channels), pixels)
    raw = _aligned_like(np.full(layout.capacity, 0xAB, np.uint8))
    used, sizes = layout.fill(raw, images, batch)
    assert used <= layout.capacity
    out = [_aligned_like(np.full((batch, *shape), np.nan, np.float32)) for shape in shapes]
    counts, settled = np.zeros((2, len(images), batch), gpu.STATS)
    shares, done = np.full((batch, len(images)), np.nan, np.float32), np.zeros(batch, np.uint32)
    values = gpu.parameters(
        specs,
        pixels,
        raw=raw.ctypes.data,
        out=[part.ctypes.data for part in out],
        counts=[part.ctypes.data for part in counts],
        done=done.ctypes.data,
        availability=shares.ctypes.data,
    )
    block, _ = gpu.block_of(max(channels))
    tiles = [gpu.tiles_of(pixels, block, max(mine)) for mine in sizes]
    values["of"]["tiles"][: len(tiles)] = tiles
    values["of"]["settled"][: len(tiles)] = [part.ctypes.data for part in settled]
    for _ in range(rounds):
        host_kernels().host_esccs_preprocess_f32(
            ctypes.c_void_p(values.ctypes.data), sum(tiles), batch, block
        )
        assert not counts.tobytes().strip(b"\0") and not done.any()  # ready for the next batch
    found = [
        (pixels_out, gpu.read_stats(rows, mine, count, pixels))
        for pixels_out, rows, mine, count in zip(out, settled, sizes, channels, strict=True)
    ]
    return found, shares


def _aligned_like(array):
    block = np.empty(array.nbytes + 256, np.uint8)
    start = -block.ctypes.data % 256
    made = block[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    made[:] = array
    return made


@settings(max_examples=60)
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


@pytest.mark.parametrize("side", [16, 15])
def test_one_launch_does_all_modalities_and_divides_shares_as_the_cpu_does(side):
    specs = list(tiny_manifest().modalities.values())
    images = [
        [awkward_patch("uint16", side, side, seed, 13) for seed in range(4)],
        [awkward_patch("float32", side, side, seed, 2) for seed in range(10, 14)],
    ]
    images[0][1] = images[1][2] = images[0][3] = images[1][3] = None
    found, shares = run_kernels(images, specs)
    for (out, stats), mine, spec, column in zip(found, images, specs, shares.T, strict=True):
        wanted = np.empty(out.shape, np.float32)
        wanted_stats = preprocess(mine, spec, wanted, threads=1)
        np.testing.assert_array_equal(out, wanted)
        for ours, theirs in zip(stats, wanted_stats, strict=True):
            assert_stats(ours, theirs, canceling=1e-6)
        valid = np.array([one.valid for one in wanted_stats])
        np.testing.assert_array_equal(column, (valid / side**2).astype(np.float32))


def test_layouts_have_the_sizes_that_the_kernel_asserts():
    sizes = [t.itemsize for t in (gpu.PATCH, gpu.STATS, gpu.MODALITY, gpu.PARAMS)]
    assert sizes == [16, 32, 832, 3368]


@given(st.integers(1, 96), st.integers(1, 10**6), st.sampled_from([(1, 8), (2, 8), (4, 4)]))
def test_launch_fits_every_device_and_leaves_no_block_without_pixels(channels, pixels, kind):
    itemsize, per_thread = kind
    block, shared_bytes = gpu.block_of(channels)
    tiles = gpu.tiles_of(pixels, block, itemsize)
    assert block % 32 == 0 and shared_bytes <= 48 * 1024
    taken = block * per_thread
    assert (tiles - 1) * taken < pixels <= tiles * taken


def test_more_than_the_kernel_takes_is_refused():
    with pytest.raises(InputError, match="97 channels, the CUDA kernel takes at most 96"):
        gpu.block_of(97)
    spec, zeros = tiny_manifest().modalities["sar"], [0] * 5
    with pytest.raises(InputError, match="5 modalities, the CUDA kernel takes at most 4"):
        gpu.parameters([spec] * 5, 100, raw=0, out=zeros, counts=zeros, done=0, availability=0)


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20)
)
def test_smallest_and_largest_of_any_floats_are_found(values):
    spec = replace(tiny_manifest().modalities["sar"], nodata=None)
    image = np.array([values, values], np.float32).reshape(2, 1, -1)
    _, (stats,) = run_kernel([image], spec)
    assert (stats.minimum, stats.maximum) == (image.min(), image.max())


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_installed_fatbin_holds_the_kernels():
    content = gpu.load_fatbin()
    assert content[:4] == b"\x50\xed\x55\xba"
    assert len(content) > 10_000 and images_of(content)


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
    """The upload alone: copy, kernel, and the optical input read back; SAR is absent."""
    channels, side = images[0].shape[0], images[0].shape[1]
    full = tiny_manifest()
    sample = replace(full.sample, height=side, width=side)
    manifest = replace(full, sample=sample, modalities={**full.modalities, "optical": spec})
    samples = [Sample({"optical": image, "sar": None}) for image in images]
    with Device.open() as device, device.active():
        kernel = device.module(gpu.load_fatbin()).kernel("esccs_preprocess_f32")
        make = Allocator(device, MemoryBudget())
        stream, rows = make.stream(), len(images)
        results = Results(make, manifest, rows, mapped=False)
        upload = PixelUpload(make, kernel, manifest, max_batch=rows, mapped=False, stream=stream)
        back = device.pinned(4 * channels * side * side * rows)
        filled = upload.fill(samples, rows)
        upload.upload(stream)
        upload.preprocess(filled, results.of(rows), stream)
        results.download(rows, stream)
        optical = upload.inputs["optical"]
        device.driver.copy_to_host(back.handle, optical, back.size, stream.handle)
        stream.synchronize()
        out = back.array.view(np.float32).reshape(rows, channels, side, side).copy()
        return out, upload.read(results.of(rows))["optical"]
