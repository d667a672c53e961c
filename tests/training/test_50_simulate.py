"""Simulated clouds and scenes keep the promises that training relies on."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS as BANDS
from esccs_edge.errors import InputError
from esccs_edge.training.simulate.clouds import (
    CLOUDY_OPACITY,
    MAX_SHADOW_SHIFT,
    draw_sky,
    simulate_clouds,
)
from esccs_edge.training.simulate.noise import box_mean, power_law_field
from esccs_edge.training.simulate.scene import CLASSES, simulate_scene
from esccs_edge.training.simulate.textures import CloudTextures


def dark_patch(size: int = 64, dn: int = 900) -> np.ndarray:
    return np.full((13, size, size), dn, np.uint16)


def vegetated_patch(seed: int = 0, size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spectrum = np.array([1200, 900, 800, 500, 900, 2500, 3200, 3100, 3400, 900, 12, 1600, 700])
    gain = 1 + 0.1 * power_law_field(size, size, 2.5, rng)
    return (spectrum[:, None, None] * gain).astype(np.uint16)


# --- noise --------------------------------------------------------------------------------------


def test_power_law_field_has_the_asked_slope():
    fields = [power_law_field(128, 128, 3.0, np.random.default_rng(i)) for i in range(30)]
    power = np.mean([np.abs(np.fft.fft2(field)) ** 2 for field in fields], axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    used = (frequency > 0.03) & (frequency < 0.4)
    slope, _ = np.polyfit(np.log(frequency[used]), np.log(power[used]), 1)
    assert slope == pytest.approx(-3.0, abs=0.1)


@settings(max_examples=20)
@given(st.integers(5, 20), st.integers(5, 20), st.integers(1, 3), st.integers(0, 999))
def test_box_mean_equals_the_slow_mean(height, width, radius, seed):
    field = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    padded = np.pad(field, radius, mode="edge")
    slow = np.array([
        [padded[r : r + 2 * radius + 1, c : c + 2 * radius + 1].mean() for c in range(width)]
        for r in range(height)])  # fmt: skip
    np.testing.assert_allclose(box_mean(field, radius), slow, atol=1e-5)


# --- clouds -------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(cover=st.floats(0, 1), seed=st.integers(0, 10_000))
def test_cover_is_exact_to_one_pixel_and_equals_the_mask(cover, seed):
    clear = vegetated_patch()
    cloudy, exact, mask = simulate_clouds(clear, BANDS, cover, np.random.default_rng(seed))
    assert exact == mask.mean()
    assert abs(exact - cover) <= 0.51 / mask.size
    assert cloudy.dtype == clear.dtype and cloudy.shape == clear.shape


def test_same_state_gives_same_clouds_and_input_is_untouched():
    clear = vegetated_patch()
    before = clear.copy()
    first, second, other = (
        simulate_clouds(clear, BANDS, 0.5, np.random.default_rng(seed))[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    np.testing.assert_array_equal(clear, before)


def test_zero_cover_is_the_clear_patch():
    clear = vegetated_patch()
    cloudy, cover, mask = simulate_clouds(clear, BANDS, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(cloudy, clear)
    assert cover == 0.0 and not mask.any()


def test_more_cover_is_brighter_for_one_sky():
    clear = dark_patch()
    sky = replace(draw_sky(np.random.default_rng(0), 64), shadow=1.0)
    means = [
        simulate_clouds(clear, BANDS, cover, np.random.default_rng(5), sky=sky)[0][1:4].mean()
        for cover in np.linspace(0, 1, 11)
    ]
    assert all(low < high for low, high in zip(means, means[1:], strict=False))


def test_thick_clouds_have_a_cloud_spectrum():
    place = {band: i for i, band in enumerate(BANDS)}
    spectra = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sky = replace(draw_sky(rng, 64), peak_opacity=1.0, softness=0.2)
        cloudy, _, mask = simulate_clouds(dark_patch(), BANDS, 0.9, rng, sky=sky)
        spectra.append(np.median(cloudy[:, mask], axis=1) * 1e-4)
    spectra = np.array(spectra)
    visible = spectra[:, [place[b] for b in ("B02", "B03", "B04")]]
    assert visible.min() > 0.45 and visible.max() < 1.1
    assert np.ptp(visible, axis=1).max() < 0.1
    assert (spectra[:, place["B12"]] < spectra[:, place["B11"]]).all()
    assert (spectra[:, place["B11"]] < spectra[:, place["B08"]]).all()
    assert (spectra[:, place["B09"]] < spectra[:, place["B08"]]).all()


def test_most_clouds_are_thin_enough_for_ground_to_show():
    blue = []
    for seed in range(60):
        cloudy, _, mask = simulate_clouds(dark_patch(), BANDS, 0.6, np.random.default_rng(seed))
        blue.append(np.median(cloudy[1][mask]) * 1e-4)
    # Six real places: median blue of masked pixels 0.19 to 0.57, and 0.98 once.
    assert 0.2 < np.median(blue) < 0.45 and np.quantile(blue, 0.9) > 0.4


@pytest.mark.parametrize(("height", "least", "most"), [(0.1, 0, 30), (1.0, 300, 4000)])
def test_only_high_clouds_show_in_the_cirrus_band(height, least, most):
    sky = replace(draw_sky(np.random.default_rng(1), 64), height=height)
    rng = np.random.default_rng(1)
    cloudy = simulate_clouds(dark_patch(dn=12), BANDS, 1.0, rng, sky=sky)[0]
    assert least < np.median(cloudy[BANDS.index("B10")]) < most


def test_bands_see_high_clouds_displaced_and_low_ones_less():
    sky = replace(
        draw_sky(np.random.default_rng(2), 64), height=0.5, shadow=1.0, haze=0.0, veil=0.0
    )

    def centers(top_km: float) -> list[float]:
        cloudy, _, _ = simulate_clouds(dark_patch(), BANDS, 0.2, np.random.default_rng(2),
                                       sky=replace(sky, top_km=top_km))  # fmt: skip
        profiles = (cloudy[[1, 3, 8]].astype(float) - 900).sum(axis=2)
        return [int(np.argmax(np.correlate(p - p.mean(), profiles[1] - profiles[1].mean(), "full")))
                for p in profiles]  # fmt: skip

    blue, red, infrared = centers(5.0)
    assert blue < red < infrared
    assert np.ptp(centers(0.0)) <= 1


def test_shadows_keep_blue_light():
    sky = replace(draw_sky(np.random.default_rng(3), 64), shadow=0.4, shift=(9, 12), haze=0.0,
                  peak_opacity=1.0)  # fmt: skip
    clear = dark_patch()
    cloudy, _, mask = simulate_clouds(clear, BANDS, 0.3, np.random.default_rng(3), sky=sky)
    kept = (cloudy / clear)[:, ~mask].min(axis=1)
    assert kept[0] > kept[3] > kept[11]


def test_shadow_darkens_the_ground_beside_the_cloud_and_only_there():
    clear = dark_patch()
    rng = np.random.default_rng(3)
    sky = replace(draw_sky(rng, 64), shadow=0.4, shift=(9, 12), peak_opacity=1.0)
    cloudy, _, mask = simulate_clouds(clear, BANDS, 0.3, np.random.default_rng(3), sky=sky)
    darkened = (cloudy[7] < 600) & ~mask
    assert darkened.sum() > 50
    lit = simulate_clouds(clear, BANDS, 0.3, np.random.default_rng(3),
                          sky=replace(sky, shadow=1.0))[0]  # fmt: skip
    assert lit[1:9].min() >= 900


def test_nodata_stays_nodata_under_clouds():
    clear = vegetated_patch()
    clear[:, :10] = 0
    cloudy, _, _ = simulate_clouds(clear, BANDS, 1.0, np.random.default_rng(0))
    assert not cloudy[:, :10].any() and cloudy[:, 10:].any(axis=0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_clouds_fit_the_stored_type(dtype):
    scale = {np.uint8: 255, np.uint16: 10_000, np.float32: 1}[dtype]
    clear = np.full((3, 64, 64), 0.1 * scale).astype(dtype)
    cloudy, _, mask = simulate_clouds(clear, ("a", "b", "c"), 0.5, np.random.default_rng(1))
    assert cloudy.dtype == dtype
    assert 0.15 < np.median(cloudy[0][mask]) / scale <= 1.0


@pytest.mark.parametrize(("bands", "cover"), [(BANDS[:3], 0.5), (BANDS, -0.1), (BANDS, 1.1)])
def test_bad_cloud_arguments_are_refused(bands, cover):
    with pytest.raises(InputError):
        simulate_clouds(dark_patch(), bands, cover, np.random.default_rng(0))


def real_looking_cloud_image() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = vegetated_patch(1, 192)
    return simulate_clouds(image, BANDS, 0.8, rng)[0].astype(np.float32) * np.float32(1e-4)


def test_textures_give_exact_cover_and_their_own_spectrum():
    textures = CloudTextures.measure([real_looking_cloud_image()])
    reddish = CloudTextures(textures.fields, (np.linspace(0.3, 0.6, 13, dtype=np.float32)[None]
                                              * np.ones((8, 1), np.float32),))  # fmt: skip
    seen = 0
    for seed in range(20):
        cloudy, cover, mask = simulate_clouds(
            dark_patch(), BANDS, 0.5, np.random.default_rng(seed), reddish
        )
        assert cover == pytest.approx(0.5, abs=1 / mask.size)
        seen += bool(cloudy[12][mask].mean() > 1.3 * cloudy[0][mask].mean())
    assert 3 <= seen <= 17  # real textures serve about half of the skies


def test_textures_refuse_images_without_clouds():
    with pytest.raises(InputError, match="no image shows clouds"):
        CloudTextures.measure([vegetated_patch().astype(np.float32) * 1e-4])


@pytest.mark.data
def test_textures_measured_on_real_clouds_look_like_clouds(sample_data):
    textures = CloudTextures.read(sample_data / "sen12ms-cr")
    assert len(textures.ramps) == 3  # the dark sea image shows no cloud
    for ramp in textures.ramps:
        assert (np.diff(ramp[:, 1:4].mean(axis=1)) > 0).all()
        assert ramp[-1, 1:4].min() > 0.45 and ramp[-1, 12] < ramp[-1, 7]


# --- scene --------------------------------------------------------------------------------------


def test_scene_has_every_class_and_consistent_parts():
    started = time.perf_counter()
    scene = simulate_scene(0)
    assert time.perf_counter() - started < 20  # about 2 s alone on one core
    assert scene.classes == CLASSES and len(CLASSES) == 10
    assert scene.optical.shape == scene.clear.shape == (13, 1024, 1024)
    assert scene.optical.dtype == np.uint16 and scene.sar.dtype == np.float32
    assert scene.sar.shape == (2, 1024, 1024) and np.isfinite(scene.sar).all()
    share = np.bincount(scene.labels.ravel(), minlength=10) / scene.labels.size
    assert share.min() > 0.02
    assert scene.cloud_mask.mean() == pytest.approx(0.35, abs=0.001)
    assert scene.clear.min() >= 1


def test_scene_is_deterministic_and_its_ground_and_sar_ignore_the_clouds():
    cloudy, cloudless = simulate_scene(7, 256, cover=0.5), simulate_scene(7, 256, cover=0.0)
    np.testing.assert_array_equal(cloudy.clear, cloudless.clear)
    np.testing.assert_array_equal(cloudy.sar, cloudless.sar)
    np.testing.assert_array_equal(cloudless.optical, cloudless.clear)
    assert (cloudy.optical != cloudy.clear).any()
    assert (simulate_scene(8, 256).labels != cloudy.labels).any()


def test_water_of_a_scene_is_dark_in_sar_and_near_infrared():
    scene = simulate_scene(3, 512)
    sea = scene.labels == CLASSES.index("SeaLake")
    town = scene.labels == CLASSES.index("Residential")
    assert scene.sar[1][sea].mean() < scene.sar[1][town].mean() - 4
    assert scene.clear[7][sea].mean() < 600 < scene.clear[7][town].mean()


def test_scene_refuses_impossible_sizes():
    with pytest.raises(InputError, match="at least 128"):
        simulate_scene(0, 64)


def test_sky_shadows_reach_no_further_than_the_margin():
    for seed in range(200):
        sky = draw_sky(np.random.default_rng(seed), 64)
        assert max(map(abs, sky.shift)) <= MAX_SHADOW_SHIFT
        assert sky.peak_opacity > CLOUDY_OPACITY
