"""Descriptions of bands as tools write them: understood, taken for a count, or refused."""

from __future__ import annotations

import pytest
from support.tiny import tiny_manifest

from esccs_edge.contracts.sensors import SENTINEL2_L2A_BANDS
from esccs_edge.errors import RasterError
from esccs_edge.rasters.band_words import channels_named
from esccs_edge.rasters.channels import channel_positions

OPTICAL, SAR = tiny_manifest(16).modalities.values()


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("b8a", "B8A"), ("B08A", "B8A"), ("Band 8A", "B8A"), ("band_08", "B08"),
        ("BAND 8 - NIR", "B08"), ("Band 8A - narrow NIR", "B8A"), ("S2_B04", "B04"),
        ("B4, central wavelength 665 nm", "B04"), ("842 nm", "B08"), ("832.8nm", "B08"),
        ("0.865 \u00b5m", "B8A"), ("2.19 um", "B12"), ("1613.7", "B11"), ("443", "B01"),
        ("red", "B04"), ("Red Edge 1", "B05"), ("rededge_3", "B07"), ("nir", "B08"),
        ("NIR08", "B8A"), ("nir09", "B09"), ("narrow NIR", "B8A"), ("Water vapor", "B09"),
        ("coastal aerosol", "B01"), ("cirrus", "B10"), ("swir16", "B11"), ("SWIR 2", "B12"),
        ("Sigma0_VH_db", "VH"), ("VV, dB", "VV"),
        # not one band
        ("rededge", None), ("reflectance", None), ("B04 / B08", None), ("10 m", None),
        ("B02_stdDev", None), ("coh_VV_23Aug2023", None), ("VH coherence", None),
        ("MSK_QUALIT_B02", None), ("Red Edge", None), ("red-edge", None), ("VV phase", None),
        ("red and blue", None), ("1.0", None), ("750 nm", None), ("Anna", None),
    ],
)  # fmt: skip
def test_a_description_means_one_band_or_none(text, band):
    assert channels_named([text, "other"])[0] == band


@pytest.mark.parametrize(
    ("words", "polarizations", "found"),
    [
        (("co-pol", "cross-pol"), ("VV", "VH"), ["VV", "VH"]),
        (("crosspol", "Co Pol"), ("HH", "HV"), ["HV", "HH"]),
        (("co-pol", "cross-pol"), ("VV", "HH"), [None, None]),
    ],
)
def test_co_and_cross_polarization_are_those_of_the_model(words, polarizations, found):
    assert channels_named(words, polarizations) == found


@pytest.mark.parametrize("word", ["Band {}", "layer_{}", "{}", "b{}", "image.{}"])
@pytest.mark.parametrize("start", [0, 1])
def test_numbers_that_count_name_nothing(word, start):
    counted = [word.format(start + i) for i in range(13)]
    assert channels_named(counted) == [None] * 13
    assert channel_positions(counted, OPTICAL, "file") == list(range(13))


def test_codes_that_leave_out_8a_are_no_count():
    with pytest.raises(RasterError, match="lacks B8A"):
        channel_positions([f"B{i}" for i in range(1, 13)], OPTICAL, "file")


@pytest.mark.parametrize(
    "words",
    [
        ("Anna", "Berta"),
        ("band 2", "band 1"),
        ("layer 1", "layer 3"),
    ],
)
def test_words_that_mean_no_band_are_refused_with_what_to_do(words):
    with pytest.raises(RasterError) as caught:
        channel_positions(words, SAR, "file")
    assert "Describe" in caught.value.hint


def test_a_model_of_other_bands_knows_its_own_names_only():
    from dataclasses import replace

    picture = replace(
        OPTICAL, channels=("one", "two", "three"), mean=OPTICAL.mean[:3], std=OPTICAL.std[:3]
    )
    assert channel_positions(("red", "green", "blue"), picture, "file") == [0, 1, 2]
    assert channel_positions(("three", "one", "two"), picture, "file") == [1, 2, 0]


@pytest.mark.parametrize("words", [("coh_VV", "coh_VH"), ("VV", "VH_phase")])
def test_what_is_computed_from_a_band_is_never_taken_for_it(words):
    with pytest.raises(RasterError, match="no measurements") as caught:
        channel_positions(words, SAR, "file")
    assert "image itself" in caught.value.hint


def test_masks_and_ratios_beside_the_bands_are_left_out():
    words = ("VH", "VH_mask", "VV/VH", "VV", "VV_stdDev")
    assert channel_positions(words, SAR, "file") == [3, 0]


@pytest.mark.parametrize(
    ("words", "spec", "hint"),
    [
        (("VV", "VH"), OPTICAL, "swapped"),
        (OPTICAL.channels, SAR, "swapped"),
        (("HH", "HV"), SAR, "dual polarization"),
        (("VH",), SAR, "dual polarization"),
        (("blue", "green", "red", "nir"), OPTICAL, "every one of its bands"),
        (("blue", "green", "Red Edge", "nir"), OPTICAL, "Describe every band"),
    ],
)
def test_the_hint_says_why_bands_are_lacking(words, spec, hint):
    with pytest.raises(RasterError, match="lacks") as caught:
        channel_positions(words, spec, "file")
    assert hint in caught.value.hint


@pytest.mark.parametrize("described", [True, False])
def test_level_2a_is_recognized(described):
    words = SENTINEL2_L2A_BANDS if described else (None,) * 12
    with pytest.raises(RasterError) as caught:
        channel_positions(words, OPTICAL, "file")
    assert "Level-2A" in caught.value.hint
