"""Simulated SAR keeps to the measured statistics of real SAR and never knows what it must not."""

from __future__ import annotations

import time

import numpy as np
import pytest

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS as BANDS
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.simulate.backscatter import MEASURED
from esccs_edge.training.simulate.clouds import simulate_clouds
from esccs_edge.training.simulate.covers import COVERS, cover_shares, read_structure, step
from esccs_edge.training.simulate.measuring import RealPair, measure
from esccs_edge.training.simulate.noise import box_mean, power_law_field
from esccs_edge.training.simulate.sar import PROFILES, simulate_sar, simulate_sar_scene
from esccs_edge.training.simulate.speckle import speckled

#: Cost of a patch of SAR over that of a sky. Before it was held against real SAR the simulator
#: cost 1.9 skies; half as much again is what training can stand.
COST_LIMIT = 2.9
#: Top-of-atmosphere digital numbers, B01 to B12, of even ground.
SPECTRA = {
    "water": (1164, 847, 639, 370, 325, 271, 261, 215, 206, 70, 7, 46, 26),
    "trees": (1200, 850, 700, 420, 800, 1800, 2150, 2100, 2300, 700, 10, 1100, 500),
    "low": (1250, 950, 950, 600, 1200, 3000, 3800, 3900, 4100, 1100, 12, 1900, 900),
    "bare": (1500, 1400, 1500, 1900, 2100, 2300, 2450, 2500, 2650, 900, 15, 3300, 2900),
}


def even_patch(cover: str, size: int = 64) -> np.ndarray:
    spectrum = np.array(SPECTRA[cover], np.uint16)[:, None, None]
    return np.ascontiguousarray(np.broadcast_to(spectrum, (13, size, size)))


def town_patch(size: int = 64) -> np.ndarray:
    """Blocks of 3 pixels, roofs and shaded streets in turn, gray in all bands."""
    blocks = np.random.default_rng(0).choice([900, 1500, 2600], (size // 3 + 1, size // 3 + 1))
    gray = np.kron(blocks, np.ones((3, 3), int))[:size, :size].astype(np.uint16)
    return np.repeat(gray[None], 13, axis=0)


def vegetated_patch(seed: int = 0, size: int = 64) -> np.ndarray:
    gain = 1 + 0.1 * power_law_field(size, size, 2.5, np.random.default_rng(seed))
    return (np.array(SPECTRA["low"])[:, None, None] * gain).astype(np.uint16)


def draws(patch: np.ndarray, count: int, name: str = "") -> np.ndarray:
    """``(count, 2, H, W)`` linear sigma0."""
    rngs = (np.random.default_rng(seed) for seed in range(count))
    sar = np.stack([simulate_sar(patch, BANDS, rng, name) for rng in rngs])
    return np.asarray(10 ** (sar.astype(np.float64) / 10))


# --- speckle ------------------------------------------------------------------------------------


@pytest.mark.parametrize("looks", [1.0, MEASURED.looks, 20.0])
def test_speckle_has_mean_one_and_the_asked_looks(looks):
    even = np.ones((600, 600), np.float32)
    noise = speckled(even, np.random.default_rng(0), looks, MEASURED.blur).astype(np.float64)
    assert noise.mean() == pytest.approx(1.0, abs=0.01)
    # 360,000 correlated samples: about 1 % standard error of the variance.
    assert noise.mean() ** 2 / noise.var() == pytest.approx(looks, rel=0.05)


def test_speckle_is_correlated_as_the_blur_says():
    even = np.ones((400, 400), np.float32)
    noise = speckled(even, np.random.default_rng(0), MEASURED.looks, MEASURED.blur) - 1
    center, near, far = MEASURED.blur
    weights = np.array([far, near, center, near, far])
    wanted = np.correlate(weights, weights, "full")[4:] / (weights**2).sum()
    for lag in (1, 2, 3):
        row = np.corrcoef(noise[:, :-lag].ravel(), noise[:, lag:].ravel())[0, 1]
        column = np.corrcoef(noise[:-lag].ravel(), noise[lag:].ravel())[0, 1]
        assert row == pytest.approx(wanted[lag], abs=0.02)
        assert column == pytest.approx(wanted[lag], abs=0.02)
    assert abs(np.corrcoef(noise[:, :-7].ravel(), noise[:, 7:].ravel())[0, 1]) < 0.02


def test_speckle_equals_noise_times_ground_blurred_the_slow_way():
    ground = np.random.default_rng(1).uniform(0.5, 2, (2, 9, 8)).astype(np.float32)
    center, near, far = MEASURED.blur
    weights = np.array([far, near, center, near, far]) / (center + 2 * near + 2 * far)
    drawn = 5.0 * (weights**2).sum() ** 2
    padded = np.pad(ground, [(0, 0), (2, 2), (2, 2)], mode="edge")
    seen = padded * np.random.default_rng(7).standard_gamma(drawn, padded.shape, np.float32) / drawn
    slow = np.zeros(ground.shape)
    for row in range(9):
        for column in range(8):
            around = seen[:, row : row + 5, column : column + 5]
            slow[:, row, column] = np.einsum("cij,i,j->c", around, weights, weights)
    fast = speckled(ground, np.random.default_rng(7), 5.0, MEASURED.blur)
    np.testing.assert_allclose(fast, slow, rtol=1e-4)


# --- covers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cover", COVERS)
def test_pixels_show_the_cover(cover):
    structure = read_structure(town_patch() if cover == "built" else even_patch(cover), BANDS)
    green = step(structure.ndvi, 0.38, 0.15)
    shares = cover_shares(structure, green * structure.dark, structure.town)
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)
    assert shares[COVERS.index(cover)].mean() > 0.8


# --- levels, looks and texture ------------------------------------------------------------------


@pytest.mark.parametrize("cover", ["water", "trees", "low", "bare", "built"])
def test_medians_of_a_cover_are_those_of_real_sar(cover):
    number = COVERS.index(cover)
    patch = town_patch() if cover == "built" else even_patch(cover)
    sar = draws(patch, 150)
    smooth = 10 * np.log10(box_mean(sar.astype(np.float32), 2))
    vv, vh = np.median(smooth, axis=(2, 3)).T
    # 150 draws: the standard error of the middle is a twelfth of the spread.
    slack = MEASURED.level_std[number] / 12 * 3 + 0.4
    assert vv.mean() == pytest.approx(MEASURED.vv[number], abs=slack + (cover == "built"))
    slack += MEASURED.ratio_std[number] / 12 * 3
    assert vh.mean() == pytest.approx(MEASURED.vh[number], abs=slack + (cover == "built"))
    assert vv.std() == pytest.approx(MEASURED.level_std[number], rel=0.25)
    assert (vh < vv).mean() > 0.97


def test_quiet_ground_has_the_looks_of_real_sar():
    """Savanna and rain forest of one color: texture is at its least, speckle is what is left."""
    sar = draws(even_patch("trees"), 60)
    even = sar / box_mean(sar.astype(np.float32), 10)
    looks = 1 / even.var(axis=(2, 3))
    assert np.quantile(looks, 0.9) == pytest.approx(MEASURED.looks, rel=0.15)


def test_channels_share_texture_but_not_speckle():
    sar = 10 * np.log10(draws(even_patch("bare"), 40)).astype(np.float32)
    smooth = box_mean(sar, 3)
    fine = sar - box_mean(sar, 1)
    shared = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in smooth]
    own = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in fine]
    assert np.median(shared) > 0.6 and np.median(own) < 0.3


# --- what it may know, and what it must stand ---------------------------------------------------


def test_sar_is_deterministic_and_differs_between_draws():
    patch = vegetated_patch()
    first, second, other = (
        simulate_sar(patch, BANDS, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert abs(first.mean() - other.mean()) > 0.01
    assert first.shape == (2, 64, 64) and first.dtype == np.float32 and np.isfinite(first).all()


def test_without_a_class_only_pixels_decide():
    patch = vegetated_patch()
    plain = simulate_sar(patch, BANDS, np.random.default_rng(3))
    for name in ("", "Vineyard"):
        told = simulate_sar(patch, BANDS, np.random.default_rng(3), name)
        np.testing.assert_array_equal(plain, told)
    assert (simulate_sar(patch, BANDS, np.random.default_rng(3), "Forest") != plain).any()


def test_sar_stands_any_class_and_other_pixels():
    for name in PROFILES:
        sar = simulate_sar(vegetated_patch(), BANDS, np.random.default_rng(0), name)
        assert np.isfinite(sar).all()
    for picture in (
        np.full((3, 32, 32), 90, np.uint8),
        np.random.default_rng(0).integers(0, 256, (3, 33, 31)).astype(np.uint8),
        np.random.default_rng(0).random((3, 20, 26), np.float32),
    ):
        for bands in (("B08", "B04", "B03"), ("a", "b", "c")):
            sar = simulate_sar(picture, bands, np.random.default_rng(0), "flooded")
            assert sar.shape == (2, *picture.shape[1:]) and np.isfinite(sar).all()


def test_pixels_without_data_take_the_middle_of_the_others():
    patch = even_patch("trees")
    patch[:, :20] = 0
    torn = patch.astype(np.float32) / 1e4
    torn[:, :20] = np.nan
    whole = simulate_sar(even_patch("trees"), BANDS, np.random.default_rng(5))
    for pixels in (patch, torn):
        sar = simulate_sar(pixels, BANDS, np.random.default_rng(5))
        np.testing.assert_allclose(sar, whole, atol=0.01)
    empty = simulate_sar(np.zeros_like(patch), BANDS, np.random.default_rng(5))
    assert np.isfinite(empty).all()


def test_simulation_costs_little_beside_the_clouds():
    """Both are drawn for every sample of every epoch; one ratio, measured in one run."""
    patch = vegetated_patch()

    def cost(call) -> float:
        times = []
        for seed in range(30):
            started = time.perf_counter()
            call(np.random.default_rng(seed))
            times.append(time.perf_counter() - started)
        return min(times)

    clouds = cost(lambda rng: simulate_clouds(patch, BANDS, 0.5, rng))
    assert cost(lambda rng: simulate_sar(patch, BANDS, rng)) < COST_LIMIT * clouds


def test_measuring_gives_back_what_was_simulated():
    names = ("water", "trees", "low", "bare")
    pairs = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        for optical in (*map(even_patch, names), town_patch()):
            sar = simulate_sar(optical, BANDS, rng)
            pairs.append(RealPair(str(seed), sar, optical))
    found = measure(pairs, BANDS)
    np.testing.assert_allclose(found.vv, MEASURED.vv, atol=1.5)
    np.testing.assert_allclose(found.vh, MEASURED.vh, atol=1.5)
    np.testing.assert_allclose(found.level_std, MEASURED.level_std, rtol=0.35)
    np.testing.assert_allclose(found.blur, MEASURED.blur, atol=0.02)
    assert found.looks == pytest.approx(MEASURED.looks, rel=0.15)
    with pytest.raises(ValueError, match="built"):
        measure([pair for pair in pairs if pair.optical[1].std() == 0], BANDS)


def test_scene_sar_is_the_patch_simulator_with_classes_by_pixel():
    patch = even_patch("trees", 96)
    labels = np.zeros((96, 96), np.uint8)
    labels[:, 48:] = 1
    contrast = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        sar = simulate_sar_scene(patch, BANDS, labels, ("Forest", "Pasture"), rng)
        mean = sar[1].mean(axis=0)
        contrast.append(mean[:40].mean() - mean[56:].mean())
    assert np.mean(contrast) > 0.8  # trees scatter more VH than grass


@pytest.mark.data
def test_sar_of_real_patches_has_the_statistics_of_real_sar(sample_data):
    source = open_dataset(f"eurosat:{sample_data / 'eurosat-ms'}")
    every = []
    names = []
    for index in range(0, len(source), 3):
        every.append(simulate_sar(source.pair(index)[0], BANDS, np.random.default_rng(index)))
        names.append(source.classes[source.labels[index]])
    sar, names = np.array(every), np.array(names)
    # SEN12MS training set: mean (-11.8, -18.3) dB, standard deviation (4.5, 4.4) dB.
    np.testing.assert_allclose(sar.mean(axis=(0, 2, 3)), (-11.8, -18.3), atol=2.0)
    np.testing.assert_allclose(sar.std(axis=(0, 2, 3)), (4.5, 4.4), atol=1.0)
    mean = {name: sar[names == name].mean(axis=(0, 2, 3)) for name in source.classes}
    assert mean["SeaLake"][0] == min(m[0] for m in mean.values())
    assert mean["Forest"][1] > mean["AnnualCrop"][1] > mean["SeaLake"][1]
