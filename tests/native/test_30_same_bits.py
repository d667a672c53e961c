"""The kernel rounds as float32 arithmetic does step by step: the same bits on every processor.

A compiler that joins a product and a sum to one rounding, as ARM processors do it, fails here.
"""

from __future__ import annotations

import numpy as np
import pytest

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.pixels.preprocess import KERNEL_DTYPES, channel_factors, preprocess

SHAPE = (3, 131, 199)  # several blocks, and a rest that fills no vector
STEP = 0.036738
F = np.float32


def spec_in(unit: str) -> ModalitySpec:
    low, high = (-34.7531, 4.8713) if unit == "dB" else (0.00125, 0.65125)
    return ModalitySpec(
        channels=("a", "b", "c"), sensor="test", level="test", unit=unit, dn_scale=1e-4,
        dn_offset=-300.0, nodata=None, clip=(low, high), mean=(low, 0.3, high), std=(0.1, 1.7, 3.3),
    )  # fmt: skip


def pixels_of(dtype: type) -> np.ndarray:
    rng = np.random.default_rng(11)
    if dtype is np.float32:
        return rng.normal(0.3, 0.4, SHAPE).astype(F)
    return rng.integers(0, min(9000, np.iinfo(dtype).max), SHAPE).astype(dtype)


def decibel(linear: np.ndarray) -> np.ndarray:
    bits = np.maximum(linear, F(1e-5)).view(np.int32)
    exponent = (bits - F(0.70710678).view(np.int32)) >> 23
    m, e = (bits - exponent * (1 << 23)).view(F), exponent.astype(F)
    s = (m - F(1)) / (m + F(1))
    z = s * s
    series = F(1) + z * (F(1) / F(3) + z * (F(1) / F(5) + z * (F(1) / F(7) + z * (F(1) / F(9)))))
    return e * F(3.0078125) + (e * F(2.4874566e-3) + F(8.6858896) * s * series)


def column(values) -> np.ndarray:
    return np.asarray(values, F).reshape(-1, 1, 1)


def planes(pixels: np.ndarray, spec: ModalitySpec) -> np.ndarray:
    unit = pixels.astype(F)
    if pixels.dtype != F:
        unit = (unit + F(spec.dn_offset)) * F(spec.dn_scale)
    if spec.is_linear:
        unit = decibel(unit)
    mean, factor = map(column, channel_factors(spec))
    return (np.clip(unit, F(spec.clip[0]), F(spec.clip[1])) - mean) * factor


def steps(pixels: np.ndarray, spec: ModalitySpec) -> np.ndarray:
    mean, factor = map(column, channel_factors(spec, STEP))
    low, high = (np.clip((F(v) - mean) * factor, F(-128), F(127)) for v in spec.clip)
    one, zero = F(1), F(0)
    if spec.is_linear:
        unit = pixels.astype(F)
        if pixels.dtype != F:
            unit = (unit + F(spec.dn_offset)) * F(spec.dn_scale)
        pixels = decibel(unit)
    elif pixels.dtype != F:
        one, zero = F(spec.dn_scale), F(spec.dn_offset) * F(spec.dn_scale)
    value = pixels.astype(F) * (one * factor) + (zero - mean) * factor
    sums = np.clip(value, low, high) + F(12582912 + 128)
    return sums.view(np.int32).astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("unit", ["reflectance", "dB", "linear"])
def test_pixels_are_normalized_to_the_bit(dtype, unit):
    spec = spec_in("dB").stored_as("linear") if unit == "linear" else spec_in(unit)
    pixels = pixels_of(dtype)
    found = np.empty((1, *SHAPE), F)
    preprocess([pixels], spec, found)
    np.testing.assert_array_equal(found[0], planes(pixels, spec))


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("unit", ["reflectance", "dB", "linear"])
def test_pixels_are_quantized_to_the_bit(dtype, unit):
    spec = spec_in("dB").stored_as("linear") if unit == "linear" else spec_in(unit)
    pixels = pixels_of(dtype)
    found = np.empty((1, *SHAPE[1:], 3), np.uint8)
    preprocess([pixels], spec, found, step=STEP)
    np.testing.assert_array_equal(found[0], steps(pixels, spec))
