"""Arrays as users hand them in: brought into the kernels' form, values unchanged, or refused.

Follows the array part of the fault catalog: bands, shapes, types, byte order, views, masks, and
scales that look wrong.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import tiny
from support.tiny import checked_pair

from esccs_edge.contracts.values import Flag
from esccs_edge.errors import InputError
from esccs_edge.pixels.band_values import band_values
from esccs_edge.pixels.preprocess import KERNEL_DTYPES, preprocess
from esccs_edge.pixels.radiometry import flags_of, radiometry_problem

MANIFEST = tiny.tiny_manifest()
OPTICAL, SAR = tiny.raw_pair(MANIFEST)


def optical_of(pixels):
    return checked_pair(pixels, None, MANIFEST).optical


def sar_of(pixels):
    return checked_pair(None, pixels, MANIFEST).sar


def judged(pixels, spec, **options):
    """Flags and problem of one modality, as after preprocessing."""
    out = np.empty((1, *pixels.shape), np.float32)
    seen = preprocess([pixels], spec, out, **options)
    (bands,) = band_values([pixels], seen, spec)
    is_dn = pixels.dtype.kind in "iu"
    return flags_of(seen[0], bands, spec), radiometry_problem(seen[0], bands, spec, is_dn)


# ---- shapes -------------------------------------------------------------------------------------


@pytest.mark.fault(7, 11)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
@example(*OPTICAL.shape)
def test_only_the_manifests_shape_is_taken(channels, height, width):
    pixels = np.ones((channels, height, width), np.uint16)
    if pixels.shape == OPTICAL.shape:
        assert np.shares_memory(optical_of(pixels), pixels)
        return
    with pytest.raises(InputError, match=r"expected \(13, 16, 16\)") as caught:
        optical_of(pixels)
    assert str(pixels.shape) in caught.value.message and caught.value.hint


@pytest.mark.fault(9, 11)
@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((16, 16, 13), "transpose"),
        ((2, 16, 16), "swapped"),
        ((12, 16, 16), "B01, B02"),
        ((13, 17, 16), "classify_scene"),
        ((16, 16), "channels, height, width"),
        ((1, 13, 16, 16), "one patch"),
    ],
)
def test_the_hint_says_what_to_do_about_a_shape(shape, hint):
    with pytest.raises(InputError) as caught:
        optical_of(np.ones(shape, np.uint16))
    assert hint in caught.value.hint


@pytest.mark.fault(10)
def test_swapped_modalities_are_refused():
    with pytest.raises(InputError, match="swapped"):
        checked_pair(SAR, OPTICAL, MANIFEST)


def test_absent_modalities_stay_absent():
    pair = checked_pair(None, None, MANIFEST)
    assert pair.optical is None and pair.sar is None


# ---- types --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_kernel_types_are_not_copied(dtype):
    pixels = OPTICAL.astype(dtype)
    assert np.shares_memory(optical_of(pixels), pixels)


@pytest.mark.fault(14)
@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [(np.int8, np.int16), (np.int32, np.uint16), (np.uint32, np.uint16), (np.int64, np.uint16),
     (np.uint64, np.uint16), (np.float64, np.float32), (np.float16, np.float32),
     (np.longdouble, np.float32)],
)  # fmt: skip
def test_other_numbers_are_cast_without_changing_their_values(dtype, becomes):
    pixels = (OPTICAL % 100).astype(dtype)
    found = optical_of(pixels)
    assert found.dtype == becomes and (found == pixels).all()


@pytest.mark.fault(14)
@given(st.integers(-(2**40), 2**40))
def test_an_integer_keeps_its_value_or_is_refused(value):
    pixels = OPTICAL.astype(np.int64)
    pixels[0, 0, 0] = value
    try:
        found = optical_of(pixels)
    except InputError:
        assert not 0 <= value < 2**16 and (value < 0 or value >= 2**15)
    else:
        assert found[0, 0, 0] == value and (found == pixels).all()


@pytest.mark.fault(14)
@pytest.mark.parametrize("dtype", [bool, np.complex64, object, "U5", "S5", "datetime64[s]"])
def test_what_is_no_number_is_refused(dtype):
    with pytest.raises(InputError, match="dtype"):
        optical_of(np.zeros(OPTICAL.shape, dtype))


@pytest.mark.fault(14)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_integer_sar_is_refused_since_db_would_lose_its_fraction(dtype):
    with pytest.raises(InputError, match="integer dtype"):
        sar_of(SAR.astype(dtype))


@pytest.mark.fault(2)
def test_a_float64_beyond_float32_becomes_infinite_and_is_masked():
    pixels = np.full(OPTICAL.shape, 0.2)
    pixels[3, 4, 5] = 1e300
    found = optical_of(pixels)
    assert np.isinf(found[3, 4, 5])
    flags, problem = judged(found, MANIFEST.modalities["optical"])
    assert problem is None and flags == {Flag.PARTIAL_NODATA, Flag.NONFINITE_MASKED}


class Arrayish:
    """What xarray, torch (CPU) and other containers look like to NumPy."""

    def __init__(self, pixels, error=None):
        self.pixels, self.error = pixels, error

    def __array__(self, dtype=None, copy=None):
        if self.error:
            raise self.error
        return self.pixels


@pytest.mark.fault(25)
def test_lists_and_array_containers_are_read():
    assert (optical_of(OPTICAL.tolist()) == OPTICAL).all()
    assert (optical_of(Arrayish(OPTICAL)) == OPTICAL).all()


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    "error",
    [RuntimeError("requires grad"), TypeError("on a GPU"), OSError("file gone"), ValueError("odd"),
     KeyError("band"), ZeroDivisionError("by zero"), AssertionError("own check")],
)  # fmt: skip
def test_a_container_that_cannot_be_read_is_refused_with_its_reason(error):
    with pytest.raises(InputError, match=str(error)):
        optical_of(Arrayish(OPTICAL, error))


@pytest.mark.fault(12)
@pytest.mark.parametrize("thing", ["s2.tif", 5, [[1], [1, 2]], {}, object()])
def test_things_that_are_no_patch_are_refused(thing):
    with pytest.raises(InputError):
        optical_of(thing)


# ---- memory layout ------------------------------------------------------------------------------


def misaligned(pixels):
    raw = np.empty(pixels.nbytes + 1, np.uint8)
    view = np.frombuffer(raw.data, pixels.dtype, pixels.size, offset=1).reshape(pixels.shape)
    view[:] = pixels
    assert not view.flags.aligned
    return view


LAYOUTS = {
    "reversed rows": lambda a: a[:, ::-1].copy()[:, ::-1],
    "every second column": lambda a: np.repeat(a, 2, axis=2)[:, :, ::2],
    "channels last": lambda a: np.ascontiguousarray(a.transpose(1, 2, 0)).transpose(2, 0, 1),
    "fortran order": np.asfortranarray,
    "big endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "little endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "misaligned": misaligned,
    "record field": lambda a: np.rec.fromarrays([np.zeros(a.shape, np.uint8), a])["f1"],
    "subclass": lambda a: a.view(np.recarray),
}


@pytest.mark.fault(21, 22, 26)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("modality", ["optical", "sar"])
def test_every_layout_gives_what_a_plain_array_gives(layout, modality):
    plain = OPTICAL if modality == "optical" else SAR
    pixels = LAYOUTS[layout](plain)
    found = (optical_of if modality == "optical" else sar_of)(pixels)
    assert found.flags.c_contiguous and found.flags.aligned and found.dtype.isnative
    assert found.dtype.type in KERNEL_DTYPES and type(found) is np.ndarray
    assert (found == plain).all()


@pytest.mark.fault(22)
def test_a_broadcast_patch_is_read():
    pixels = np.broadcast_to(np.uint16(1500), OPTICAL.shape)
    assert (optical_of(pixels) == 1500).all()


@pytest.mark.fault(23)
def test_a_memory_map_is_read_without_a_copy(tmp_path):
    np.save(tmp_path / "a.npy", OPTICAL)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert np.shares_memory(optical_of(mapped), mapped)


# ---- masks and absent pixels --------------------------------------------------------------------


def masked(pixels, at):
    mask = np.zeros(pixels.shape, bool)
    mask[at] = True
    return np.ma.MaskedArray(pixels, mask)


@pytest.mark.fault(25)
@pytest.mark.parametrize("channel", [0, 7])
def test_a_pixel_masked_in_one_channel_is_absent_in_all(channel):
    found = optical_of(masked(OPTICAL, np.s_[channel, 2:4, :]))
    assert (found[:, 2:4] == MANIFEST.modalities["optical"].nodata).all()
    assert (found[:, 4:] == OPTICAL[:, 4:]).all() and OPTICAL[:, 2:4].any()


def test_a_mask_on_float_pixels_becomes_nan():
    found = sar_of(masked(SAR, np.s_[1, 0, 0]))
    assert np.isnan(found[:, 0, 0]).all() and np.isfinite(found[:, 1:]).all()


def test_a_mask_that_hides_nothing_costs_nothing():
    assert np.shares_memory(optical_of(np.ma.MaskedArray(OPTICAL)), OPTICAL)


@pytest.mark.fault(25)
@pytest.mark.parametrize("nodata", [None, -9999.0, 0.5, 70000.0, float("nan")])
def test_a_mask_on_integers_that_cannot_hold_the_nodata_value_is_refused(nodata):
    spec = replace(MANIFEST.modalities["optical"], nodata=nodata)
    with pytest.raises(InputError, match="nodata value is"):
        checked_pair(masked(OPTICAL, np.s_[0, 0, 0]), None, MANIFEST.with_modality("optical", spec))


@pytest.mark.fault(14)
@pytest.mark.parametrize("dtype", ["M8[s]", "bool", "complex64", "S4"])
def test_a_mask_on_what_is_no_number_is_refused_for_its_type(dtype):
    with pytest.raises(InputError, match="dtype"):
        optical_of(masked(np.zeros(OPTICAL.shape, dtype), np.s_[0, 0, 0]))


@pytest.mark.fault(1)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=40))
def test_nan_pixels_count_as_absent_ones(places):
    rows, columns = map(list, zip(*places, strict=True))
    outs = []
    for value in (np.nan, np.inf, -np.inf, MANIFEST.modalities["sar"].nodata):
        pixels = SAR.copy()
        if np.isfinite(value):
            pixels[:, rows, columns] = value
        else:
            pixels[0, rows, columns] = value
        out = np.empty((1, *SAR.shape), np.float32)
        (stats,) = preprocess([pixels], MANIFEST.modalities["sar"], out)
        flags = flags_of(stats, None, MANIFEST.modalities["sar"])
        assert (Flag.NONFINITE_MASKED in flags) == (not np.isfinite(value))
        assert Flag.PARTIAL_NODATA in flags and stats.valid == 256 - len(set(places))
        outs.append(out)
    assert all((out == outs[0]).all() for out in outs)


# ---- scales that look wrong ---------------------------------------------------------------------


def test_plausible_pixels_raise_no_flag_and_no_problem():
    assert judged(OPTICAL, MANIFEST.modalities["optical"]) == (set(), None)
    assert judged(SAR, MANIFEST.modalities["sar"]) == (set(), None)


@pytest.mark.fault(15)
@pytest.mark.parametrize("factor", [1.0, 1 / 255 * 10_000])
def test_digital_numbers_given_as_reflectance_are_refused(factor):
    _, problem = judged((OPTICAL * factor).astype(np.float32), MANIFEST.modalities["optical"])
    assert isinstance(problem, InputError) and "digital numbers" in problem.hint


@pytest.mark.fault(16)
def test_reflectance_given_as_digital_numbers_is_suspect():
    flags, _ = judged((OPTICAL * 1e-4 * 255).astype(np.uint16), MANIFEST.modalities["optical"])
    assert Flag.RADIOMETRY_SUSPECT in flags


@pytest.mark.fault(17)
def test_an_offset_applied_twice_is_suspect():
    flags, _ = judged(OPTICAL.astype(np.int16) - 2000, MANIFEST.modalities["optical"])
    assert Flag.RADIOMETRY_SUSPECT in flags


@pytest.mark.fault(18)
@pytest.mark.parametrize("exponent", [10, 20], ids=["power", "amplitude"])
def test_linear_sar_given_as_db_is_refused(exponent):
    _, problem = judged(np.power(10, SAR / exponent, dtype=np.float32), MANIFEST.modalities["sar"])
    assert isinstance(problem, InputError) and "linear" in problem.hint


@pytest.mark.fault(18)
def test_db_given_as_linear_sar_is_refused():
    _, problem = judged(SAR, MANIFEST.modalities["sar"].stored_as("linear"))
    assert isinstance(problem, InputError) and "sar_unit" in problem.hint


def test_scaled_db_is_refused():
    _, problem = judged(SAR * 100, MANIFEST.modalities["sar"])
    assert isinstance(problem, InputError) and "divide" in problem.hint


@pytest.mark.fault(19)
def test_the_logarithm_of_zero_is_masked():
    pixels = SAR.copy()
    pixels[:, :4] = -np.inf
    flags, problem = judged(pixels, MANIFEST.modalities["sar"])
    assert problem is None and flags == {Flag.PARTIAL_NODATA, Flag.NONFINITE_MASKED}


@pytest.mark.fault(30)
@pytest.mark.parametrize("pixels", [OPTICAL.clip(4000) * 3, np.full_like(OPTICAL, 65535)])
def test_values_beyond_the_training_range_are_flagged(pixels):
    flags, _ = judged(pixels, MANIFEST.modalities["optical"])
    assert Flag.CLIPPED in flags


@pytest.mark.fault(2)
@pytest.mark.parametrize("value", [1e30, -1e30])
def test_an_absurd_finite_value_does_not_pass_silently(value):
    flags, problem = judged(np.full_like(SAR, value), MANIFEST.modalities["sar"])
    assert problem is not None or Flag.CLIPPED in flags


def test_a_constant_patch_is_suspect_but_not_mistaken_for_linear_sar():
    found = judged(np.full_like(SAR, -12.0), MANIFEST.modalities["sar"])
    assert found == ({Flag.RADIOMETRY_SUSPECT}, None)


# ---- the bulk decides, not one pixel -------------------------------------------------------------


@pytest.mark.parametrize("extreme", [1e-6, 5.0])
def test_one_extreme_pixel_neither_hides_nor_raises_a_wrong_scale(extreme):
    spec = MANIFEST.modalities["optical"]
    right, dark = (OPTICAL * np.float32(1e-4), OPTICAL * np.float32(1e-8))
    for pixels in (right, dark):
        pixels[:, 3, 3] = extreme
    assert judged(right, spec) == (set(), None)
    assert Flag.RADIOMETRY_SUSPECT in judged(dark, spec)[0]


@pytest.mark.parametrize("value", [-9999.0, -3.4028235e38, 3.4028235e38, 1e20])
@pytest.mark.parametrize("modality", ["optical", "sar"])
def test_a_mark_of_absent_pixels_that_is_not_declared_is_found_in_one_pixel(modality, value):
    pixels = (OPTICAL * 1e-4 if modality == "optical" else SAR).astype(np.float32)
    pixels[:, 2, 5] = value
    flags, problem = judged(pixels, MANIFEST.modalities[modality])
    assert problem is not None or Flag.RADIOMETRY_SUSPECT in flags


def test_one_wrong_pixel_does_not_make_db_linear():
    pixels = SAR.copy()
    pixels[0, 0, 0] = 3.0
    assert judged(pixels, MANIFEST.modalities["sar"]) == (set(), None)
    linear = np.power(10, SAR / 10, dtype=np.float32)
    linear[0, 0, 0] = -0.001  # noise subtracted
    assert judged(linear, MANIFEST.modalities["sar"])[1] is not None


def test_integer_sar_is_told_apart():
    hints = {}
    for name, pixels in (("dB", SAR * 100), ("DN", 500 + SAR)):
        with pytest.raises(InputError) as caught:
            sar_of(pixels.astype(np.int16))
        hints[name] = caught.value.hint
    assert "dB * 100" in hints["dB"] and "calibrate" in hints["DN"]
