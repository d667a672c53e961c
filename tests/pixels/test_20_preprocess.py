"""The fused kernel against the slow NumPy twin, over types, sizes, masks, units and threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import oracle, tiny

from esccs_edge import _preprocess_cpu
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.values import ABSENT
from esccs_edge.pixels.preprocess import KERNEL_DTYPES, preprocess

#: The kernel computes in float32, the twin in float64. A dB value of 35 has a step of 4e-6, a
#: reflectance of 1 one of 1e-7; dividing by a std of 0.1 or more and log10f add a few of those.
FLOAT32_KERNEL_ATOL = 5e-5
FLOAT32_KERNEL_RTOL = 1e-5
#: Sums of up to 128 float32 values per accumulator before they are joined in float64.
MEAN_RTOL = 2e-5

MANIFEST = tiny.tiny_manifest()
COUNTS = ("pixels", "valid", "nonfinite", "below", "above")


@contextmanager
def using(instructions: str) -> Iterator[None]:
    """Run the kernels as a processor would that has no more than this."""
    _preprocess_cpu.use(instructions)
    try:
        yield
    finally:
        _preprocess_cpu.use(_preprocess_cpu.instruction_sets()[0])


def spec_for(channels: int, unit: str, nodata: float | None) -> ModalitySpec:
    """Clip bounds lie between two digital numbers, where float32 and float64 cannot disagree."""
    low, high = (-34.7531, 4.8713) if unit == "dB" else (0.00125, 0.65125)
    return ModalitySpec(
        channels=tuple(f"c{index}" for index in range(channels)),
        sensor="test", level="test", unit=unit, dn_scale=1e-4, dn_offset=-300.0, nodata=nodata,
        clip=(low, high),
        mean=tuple(np.linspace(low, high, channels).tolist()),
        std=tuple(np.linspace(0.1, 4.0, channels).tolist()),
    )  # fmt: skip


def random_pixels(rng, dtype, shape, nodata) -> np.ndarray:
    """Values over the whole range of the type, with absent and, for floats, non-finite pixels."""
    if np.dtype(dtype).kind == "f":
        pixels = rng.normal(0.2, 0.5, shape).astype(dtype)
        bad = rng.random(shape) < rng.choice([0, 0.01, 0.3])
        pixels[bad] = rng.choice([np.nan, np.inf, -np.inf, 1e30, -1e30], bad.sum())
    else:
        limits = np.iinfo(dtype)
        pixels = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if nodata is not None and np.can_cast(np.min_scalar_type(int(nodata)), dtype):
        pixels[:, rng.random(shape[1:]) < rng.choice([0, 0.1, 1.0], p=[0.4, 0.5, 0.1])] = nodata
        pixels[0, rng.random(shape[1:]) < 0.1] = nodata  # in one channel: not absent
    return pixels


def assert_equals_twin(pixels, spec, plane, stats) -> None:
    wanted, wanted_stats = oracle.preprocess(pixels, spec)
    np.testing.assert_allclose(plane, wanted, rtol=FLOAT32_KERNEL_RTOL, atol=FLOAT32_KERNEL_ATOL)
    assert {name: getattr(stats, name) for name in COUNTS} == {n: wanted_stats[n] for n in COUNTS}
    scale = max(abs(wanted_stats["minimum"]), abs(wanted_stats["maximum"]))
    for name, rtol in (("minimum", 1e-6), ("maximum", 1e-6), ("mean", MEAN_RTOL)):
        atol = FLOAT32_KERNEL_ATOL + (MEAN_RTOL * scale if name == "mean" else 0)
        np.testing.assert_allclose(getattr(stats, name), wanted_stats[name], rtol=rtol, atol=atol)


sizes = st.integers(1, 70)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(KERNEL_DTYPES),
    channels=st.integers(1, 4),
    height=sizes,
    width=sizes,
    unit=st.sampled_from(["reflectance", "dB"]),
    nodata=st.sampled_from([None, 0.0, -9999.0, 255.0]),
    threads=st.sampled_from([1, 2]),
    instructions=st.sampled_from(_preprocess_cpu.instruction_sets()),
)
def test_the_kernel_equals_its_slow_twin(
    seed, dtype, channels, height, width, unit, nodata, threads, instructions
):
    rng = np.random.default_rng(seed)
    spec = spec_for(channels, unit, nodata)
    images = [random_pixels(rng, dtype, (channels, height, width), nodata) for _ in range(2)]
    out = np.full((2, channels, height, width), 9e9, np.float32)
    with np.errstate(over="ignore", invalid="ignore"), using(instructions):
        stats = preprocess(images, spec, out, threads=threads)
        for image, plane, found in zip(images, out, stats, strict=True):
            assert_equals_twin(image, spec, plane, found)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    height=sizes,
    width=sizes,
    instructions=st.sampled_from(_preprocess_cpu.instruction_sets()),
)
def test_linear_sigma0_becomes_db_with_a_floor(seed, height, width, instructions):
    rng = np.random.default_rng(seed)
    pixels = np.power(10, rng.uniform(-7, 1, (2, height, width))).astype(np.float32)
    pixels[:, rng.random((height, width)) < 0.1] = 0  # declared nodata
    pixels[0, rng.random((height, width)) < 0.1] = rng.choice([-1.0, 0.0, np.nan])
    spec = spec_for(2, "dB", 0.0).stored_as("linear")
    out = np.empty((1, *pixels.shape), np.float32)
    with using(instructions):
        stats = preprocess([pixels], spec, out)[0]
    assert_equals_twin(pixels, spec, out[0], stats)


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("bad", ["nothing", "a corner", "one pixel", "a block"])
def test_every_instruction_set_writes_the_same_over_several_blocks(dtype, bad):
    rng = np.random.default_rng(5)
    height, width = 131, 199  # three blocks of 8192 pixels and a rest that fills no vector
    spec = spec_for(3, "reflectance", 7.0)
    high = 1.2 if dtype == np.float32 else 100 if dtype == np.uint8 else 7000
    pixels = rng.uniform(0.1 * high, high, (3, height, width)).astype(dtype)
    where = {"nothing": slice(0, 0), "a corner": slice(0, 700), "one pixel": slice(20000, 20001)}
    flat = pixels.reshape(3, -1)
    flat[:, where.get(bad, slice(8192, 16384))] = 7
    if dtype == np.float32 and bad == "one pixel":
        flat[1, 9000] = np.nan
    results = []
    for instructions in _preprocess_cpu.instruction_sets():
        out = np.empty((1, *pixels.shape), np.float32)
        with using(instructions):
            stats = preprocess([pixels], spec, out)[0]
        assert_equals_twin(pixels, spec, out[0], stats)
        results.append((out.tobytes(), stats))
    assert all(result == results[0] for result in results)


@pytest.mark.fault(2, 30)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("clip", [(-9.0, -8.0), (8.0, 9.0), (-9.0, 9.0), (0.0105, 0.02125)])
def test_values_outside_the_clip_range_are_counted_to_the_last(dtype, clip):
    limits = np.iinfo(dtype)
    pixels = np.linspace(limits.min, limits.max, 64 * 64).astype(dtype).reshape(1, 64, 64)
    spec = replace(spec_for(1, "reflectance", None), clip=clip, dn_offset=0.0)
    out = np.empty((1, 1, 64, 64), np.float32)
    for instructions in _preprocess_cpu.instruction_sets():
        with using(instructions):
            assert_equals_twin(pixels, spec, out[0], preprocess([pixels], spec, out)[0])


# ---- the input of an INT8 graph -----------------------------------------------------------------

#: Two roundings of float32 lie between a value and its step: this close to the middle of two steps
#: either is right.
TIE = 2e-3


def assert_is_quantized(bytes_, plane, step) -> None:
    """Compare ``(H, W, C)`` bytes with the normalized ``(C, H, W)`` that they stand for."""
    steps = np.clip(plane.transpose(1, 2, 0).astype(np.float64) / step, -128, 127)
    distance = np.abs(bytes_.astype(np.float64) - 128 - steps)
    assert distance.max() <= 0.5 + TIE


@example(
    seed=14604,  # means of 1e30 and -1e30 that cancel
    dtype=np.float32,
    channels=4,
    height=63,
    width=53,
    nodata=None,
    threads=1,
    step=0.001,
    instructions=_preprocess_cpu.instruction_sets()[0],
)
@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(KERNEL_DTYPES),
    channels=st.integers(1, 35),
    height=sizes,
    width=sizes,
    nodata=st.sampled_from([None, 0.0, -9999.0, 255.0]),
    threads=st.sampled_from([1, 2]),
    step=st.sampled_from([0.001, 0.036738, 1.0]),
    instructions=st.sampled_from(_preprocess_cpu.instruction_sets()),
)
def test_quantized_pixels_are_the_normalized_ones_in_steps(
    seed, dtype, channels, height, width, nodata, threads, step, instructions
):
    rng = np.random.default_rng(seed)
    spec = spec_for(channels, "reflectance", nodata)
    shape = channels, height, width
    images = [
        random_pixels(rng, dtype, shape, nodata),
        None,
        random_pixels(rng, dtype, shape, nodata),
    ]
    planes = np.empty((3, *shape), np.float32)
    found = np.full((4, height, width, channels), 7, np.uint8)
    with np.errstate(over="ignore", invalid="ignore"), using(instructions):
        wanted_stats = preprocess(images, spec, planes, threads=threads)
        stats = preprocess(images, spec, found[:3], step=step, threads=threads)
    for plane, bytes_ in zip(planes, found, strict=False):
        assert_is_quantized(bytes_, plane, step)
    assert (found[1] == 128).all() and (found[3] == 7).all()
    for seen, wanted in zip(stats, wanted_stats, strict=True):
        assert [getattr(seen, n) for n in COUNTS] == [getattr(wanted, n) for n in COUNTS]
        limits = np.array([seen.minimum, seen.maximum])
        np.testing.assert_allclose(
            limits, [wanted.minimum, wanted.maximum], rtol=MEAN_RTOL, atol=FLOAT32_KERNEL_ATOL
        )
        # Sums in another order: values of both signs may cancel, as for the slow twin above.
        atol = FLOAT32_KERNEL_ATOL + MEAN_RTOL * np.nan_to_num(np.abs(limits)).max()
        np.testing.assert_allclose(seen.mean, wanted.mean, rtol=MEAN_RTOL, atol=atol)


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("channels", [2, 13])
def test_quantized_pixels_cross_tiles_and_vectors_alike(dtype, channels):
    rng = np.random.default_rng(6)
    height, width = 131, 199
    spec = spec_for(channels, "reflectance", 7.0)
    pixels = random_pixels(rng, dtype, (channels, height, width), 7.0)
    planes = np.empty((1, *pixels.shape), np.float32)
    results = []
    for instructions in _preprocess_cpu.instruction_sets():
        found = np.empty((1, height, width, channels), np.uint8)
        with np.errstate(over="ignore", invalid="ignore"), using(instructions):
            preprocess([pixels], spec, planes)
            preprocess([pixels], spec, found, step=0.036738)
        assert_is_quantized(found[0], planes[0], 0.036738)
        results.append(found.tobytes())
    assert all(result == results[0] for result in results)


def test_linear_sigma0_is_quantized_in_db():
    rng = np.random.default_rng(7)
    pixels = np.power(10, rng.uniform(-7, 1, (2, 40, 50))).astype(np.float32)
    spec = spec_for(2, "dB", 0.0).stored_as("linear")
    planes, found = np.empty((1, 2, 40, 50), np.float32), np.empty((1, 40, 50, 2), np.uint8)
    preprocess([pixels], spec, planes)
    preprocess([pixels], spec, found, step=0.5)
    assert_is_quantized(found[0], planes[0], 0.5)


@pytest.mark.parametrize(("mean", "wanted"), [(-9.0, 255), (9.0, 0)])
def test_a_clip_range_beyond_the_bytes_ends_where_they_end(mean, wanted):
    spec = replace(spec_for(1, "reflectance", None), mean=(mean,), std=(0.1,))
    found = np.empty((1, 8, 8, 1), np.uint8)
    preprocess([np.full((1, 8, 8), 0.3, np.float32)], spec, found, step=0.1)
    assert (found == wanted).all()


@pytest.mark.parametrize(
    "out",
    [
        np.empty((1, 16, 16, 2), np.int8),
        np.empty((1, 16, 32, 2), np.uint8)[:, :, ::2],
        np.empty((1, 2, 16, 16), np.uint8),
    ],
    ids=["int8", "strided", "channels first"],
)
def test_quantize_refuses_what_it_would_miswrite(out):
    with pytest.raises((TypeError, ValueError)):
        pixels = np.zeros((2, 16, 16), np.float32)
        preprocess([pixels], MANIFEST.modalities["sar"], out, step=0.1)


def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(ValueError, match="no instruction set of that name"):
        _preprocess_cpu.use("abacus")


def test_threads_change_nothing():
    rng = np.random.default_rng(3)
    spec = spec_for(3, "reflectance", 0.0)
    images = [random_pixels(rng, np.float32, (3, 64, 64), 0.0) for _ in range(16)]
    results = []
    for threads in (1, 2, 5, None):
        out = np.empty((16, 3, 64, 64), np.float32)
        results.append((out, preprocess(images, spec, out, threads=threads)))
    for out, stats in results[1:]:
        assert out.tobytes() == results[0][0].tobytes()
        np.testing.assert_array_equal(
            [[getattr(s, name) for name in COUNTS] for s in stats],
            [[getattr(s, name) for name in COUNTS] for s in results[0][1]],
        )


def test_rows_are_independent_of_their_neighbors():
    rng = np.random.default_rng(4)
    spec = MANIFEST.modalities["optical"]
    images = [rng.integers(0, 9000, (13, 16, 16), np.uint16) for _ in range(5)]
    together = np.empty((5, 13, 16, 16), np.float32)
    stats = preprocess([*images[:2], None, *images[3:]], spec, together)
    for index in (0, 1, 3, 4):
        alone = np.empty((1, 13, 16, 16), np.float32)
        assert preprocess([images[index]], spec, alone)[0] == stats[index]
        assert (alone[0] == together[index]).all()


def test_an_absent_modality_becomes_zero_and_has_no_statistics():
    out = np.full((3, 2, 16, 16), 7, np.float32)
    stats = preprocess([None, None], MANIFEST.modalities["sar"], out)
    assert stats == [ABSENT, ABSENT]
    assert not out[:2].any() and (out[2] == 7).all()


def test_types_may_differ_within_a_batch():
    optical, _ = tiny.raw_pair(MANIFEST)
    images = [optical, optical.astype(np.int16), (optical * 1e-4).astype(np.float32)]
    out = np.empty((3, 13, 16, 16), np.float32)
    preprocess(images, MANIFEST.modalities["optical"], out)
    assert (out[0] == out[1]).all()
    np.testing.assert_allclose(out[2], out[0], atol=FLOAT32_KERNEL_ATOL)


def test_the_offset_applies_to_digital_numbers_only():
    optical, _ = tiny.raw_pair(MANIFEST)
    shifted = replace(MANIFEST.modalities["optical"], dn_offset=-1000.0)
    reflectance = (optical * 1e-4).astype(np.float32)
    out = np.empty((3, 13, 16, 16), np.float32)
    preprocess([optical + np.uint16(1000), reflectance], shifted, out[:2])
    preprocess([optical], MANIFEST.modalities["optical"], out[2:])
    np.testing.assert_allclose(out[0], out[2], atol=FLOAT32_KERNEL_ATOL)
    np.testing.assert_allclose(out[1], out[2], atol=FLOAT32_KERNEL_ATOL)


@pytest.mark.fault(23)
def test_read_only_input_is_accepted_and_left_alone():
    optical, _ = tiny.raw_pair(MANIFEST)
    before = optical.tobytes()
    optical.flags.writeable = False
    preprocess([optical], MANIFEST.modalities["optical"], np.empty((1, 13, 16, 16), np.float32))
    assert optical.tobytes() == before


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    ("images", "out"),
    [
        ([np.zeros((2, 16, 16), np.float32)] * 2, np.empty((1, 2, 16, 16), np.float32)),
        ([np.zeros((3, 16, 16), np.float32)], np.empty((1, 2, 16, 16), np.float32)),
        ([np.zeros((2, 16, 17), np.float32)], np.empty((1, 2, 16, 16), np.float32)),
        ([np.zeros((2, 16, 16), np.float64)], np.empty((1, 2, 16, 16), np.float32)),
        ([np.zeros((2, 16, 16), np.float32)], np.empty((1, 2, 16, 16), np.float64)),
        ([np.zeros((2, 16, 16), np.float32)], np.empty((1, 2, 16, 32), np.float32)[..., ::2]),
        ([np.zeros((2, 16, 16), np.float32)], np.broadcast_to(np.float32(0), (1, 2, 16, 16))),
        ([np.zeros((2, 16, 16), ">f4")], np.empty((1, 2, 16, 16), np.float32)),
    ],
    ids=[
        "rows",
        "channels",
        "width",
        "float64",
        "out float64",
        "out strided",
        "out fixed",
        "big endian",
    ],
)
def test_the_kernel_refuses_what_it_would_misread(images, out):
    with pytest.raises((TypeError, ValueError)):
        preprocess(images, MANIFEST.modalities["sar"], out)


def test_the_module_tells_what_it_is():
    assert "esccs_edge.pixels.preprocess" in _preprocess_cpu.__doc__
