"""Series as users hand them in: with dates, in slots, with gaps; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from support.small_series import series_manifest

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import SampleSpec
from esccs_edge.contracts.values import Sample
from esccs_edge.errors import InputError, ManifestError
from esccs_edge.pixels.checks import checked_sample

PIXEL = series_manifest()
IMAGES = series_manifest(4, size=5)


def checked(manifest: Manifest, **pixels) -> Sample:
    return checked_sample(pixels, manifest)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 5000, shape, dtype=np.uint16)


def test_a_series_in_slots_is_laid_below_one_another():
    series = numbers(3, 12)
    sample = checked(PIXEL, optical=series, sar=None)
    assert sample.pixels["optical"].shape == (3, 12, 1) and sample.pixels["sar"] is None
    assert (sample.pixels["optical"][..., 0] == series).all()
    images = numbers(3, 4, 5, 5)
    stacked = checked(IMAGES, optical=images).pixels["optical"]
    assert stacked.shape == (3, 20, 5) and (stacked[:, 10:15] == images[:, 2]).all()
    assert np.array_equal(checked(IMAGES, optical=stacked).pixels["optical"], stacked)


def test_images_go_where_their_dates_belong_and_the_later_valid_one_stays():
    dates = ["2022-09-04", "2022-09-20", "2023-01-02"]
    series = numbers(3, 3)
    series[:, 1] = 0  # nodata: the earlier image of September stays
    placed = checked(PIXEL, optical=series, dates=dates).pixels["optical"][..., 0]
    assert (placed[:, 0] == series[:, 0]).all() and (placed[:, 4] == series[:, 2]).all()
    assert not placed[:, [1, 2, 3, *range(5, 12)]].any()
    images = np.random.default_rng(2).uniform(0.1, 0.5, (3, 2, 5, 5)).astype(np.float32)
    images[1, 1, 0, 0] = np.nan
    found = checked(IMAGES, optical=images, dates=["2022-10-01", "2022-10-30"]).pixels["optical"]
    october = found.reshape(3, 4, 5, 5)[:, 1]
    assert (october[:, 0, 0] == images[:, 0, 0, 0]).all()
    assert (october[:, 1:] == images[:, 1, 1:]).all()
    assert np.isnan(found.reshape(3, 4, 5, 5)[:, [0, 2, 3]]).all()


def test_each_sensor_may_have_its_own_dates_in_one_season():
    optical, sar = numbers(3, 1), np.full((2, 2), -11, np.float32)
    dates = {"optical": ["2023-08-30"], "sar": ["2022-09-01", "2022-09-13"]}
    sample = checked(PIXEL, optical=optical, sar=sar, dates=dates)
    assert sample.pixels["optical"][:, 11, 0].all() and not sample.pixels["optical"][:, :11].any()
    assert np.isfinite(sample.pixels["sar"][:, 0]).all()
    assert np.isnan(sample.pixels["sar"][:, 1:]).all()


@pytest.mark.parametrize(
    "pixels, words",
    [
        ({"optical": numbers(3, 11)}, "11 dates, expected 12"),
        ({"optical": numbers(3, 13, 1, 1)}, "13 dates, expected 12"),
        ({"optical": numbers(3, 2), "dates": ["2022-09-01"]}, "with 1 dates"),
        ({"optical": numbers(3, 2), "dates": ["2022-09-02", "2022-09-01"]}, "not sorted"),
        ({"optical": numbers(3, 2), "dates": ["2022-09-02"] * 2}, "twice"),
        ({"optical": numbers(3, 2), "dates": ["2022-09-02", "2023-09-02"]}, "out of the season"),
        ({"optical": numbers(3, 1), "dates": {"sar": ["2022-09-02"]}}, "those of optical too"),
        ({"optical": numbers(2, 12)}, "expected"),
        ({"optical": numbers(12, 3)}, "dates"),
        ({"radar": numbers(3, 12)}, "modalities"),
        ({"optical": [[1, 2], [3]], "dates": ["2022-09-01"]}, "array"),
    ],
)
def test_series_of_another_form_are_refused(pixels, words):
    with pytest.raises(InputError, match=words):
        checked_sample(pixels, PIXEL)


def test_dates_need_a_calendar():
    manifest = PIXEL.evolve(sample=SampleSpec(1, 1, 10, 12))
    with pytest.raises(InputError, match="no calendar"):
        checked(manifest, optical=numbers(3, 2), dates=["2022-09-01", "2022-09-02"])


def test_a_masked_series_loses_its_masked_dates():
    series = np.ma.array(numbers(3, 12), mask=False)
    series[1, 3] = np.ma.masked
    assert not checked(PIXEL, optical=series).pixels["optical"][:, 3].any()


def test_manifests_of_series_travel_and_wrong_ones_are_refused():
    for manifest in (PIXEL, IMAGES, series_manifest(sensors=("sar",))):
        again = Manifest.from_json(manifest.to_json())
        assert again == manifest and again.outputs.keys() == manifest.outputs.keys()
    assert PIXEL.inputs["optical"].shape == ("N", 3, 12, 1)
    assert IMAGES.inputs["sar"].shape == ("N", 2, 20, 5)
    with pytest.raises(ManifestError, match="no dates"):
        PIXEL.evolve(sample=SampleSpec(1, 1, 10))
    with pytest.raises(ManifestError, match="1 x 1"):
        PIXEL.evolve(sample=SampleSpec(2, 2, 10, 12))
