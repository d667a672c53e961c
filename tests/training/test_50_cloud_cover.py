"""Cloud cover estimated from pixels agrees with what was simulated and with real clouds."""

from __future__ import annotations

import numpy as np
import pytest

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS as BANDS
from esccs_edge.contracts.sensors import SENTINEL2_L2A_BANDS
from esccs_edge.errors import InputError
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.samples.cloud_cover import cloud_likelihood, estimate_cloud_cover
from esccs_edge.training.simulate.clouds import simulate_clouds

SCALE = np.float32(1e-4)
VISIBLE_TO_SWIR = ("B02", "B03", "B04", "B08", "B11", "B12")


def flat(spectrum: dict[str, float], size: int = 16) -> np.ndarray:
    values = np.array([spectrum.get(band, 0.1) for band in BANDS], np.float32)
    return np.broadcast_to(values[:, None, None], (13, size, size)).copy()


GROUND = flat({"B02": 0.09, "B03": 0.08, "B04": 0.05, "B08": 0.3})
CLOUD = flat({band: 0.6 for band in BANDS} | {"B10": 0.01, "B11": 0.45, "B12": 0.38})


def test_ground_is_clear_and_cloud_is_covered():
    assert estimate_cloud_cover(GROUND, BANDS) == 0.0
    assert estimate_cloud_cover(CLOUD, BANDS) == 1.0


def test_half_a_cloud_is_half_covered_in_any_band_set():
    half = GROUND.copy()
    half[:, :8] = CLOUD[:, :8]
    assert estimate_cloud_cover(half, BANDS) == pytest.approx(0.5)
    keep = [BANDS.index(band) for band in SENTINEL2_L2A_BANDS]
    assert estimate_cloud_cover(half[keep], SENTINEL2_L2A_BANDS) == pytest.approx(0.5)
    keep = [BANDS.index(band) for band in VISIBLE_TO_SWIR]
    assert estimate_cloud_cover(half[keep], VISIBLE_TO_SWIR) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "spectrum",
    [
        {"B02": 0.16, "B03": 0.22, "B04": 0.32, "B08": 0.38, "B11": 0.5, "B12": 0.45},  # sand
        {"B02": 0.12, "B03": 0.14, "B04": 0.24, "B08": 0.3, "B11": 0.35},  # red roofs
        {"B02": 0.85, "B03": 0.83, "B04": 0.82, "B08": 0.75, "B11": 0.08, "B12": 0.07},  # snow
    ],
    ids=["sand", "red roofs", "snow"],
)
def test_bright_ground_that_is_not_cloud_is_clear(spectrum):
    assert estimate_cloud_cover(flat(spectrum), BANDS) < 0.1


def test_absent_pixels_do_not_count():
    half = CLOUD.copy()
    half[:, :8] = 0
    assert estimate_cloud_cover(half, BANDS) == 1.0
    half[:, :8] = np.nan
    assert estimate_cloud_cover(half, BANDS) == 1.0
    assert estimate_cloud_cover(np.zeros((13, 4, 4)), BANDS) == 0.0


def test_pictures_of_unknown_bands_use_the_darkest_channel():
    picture = np.full((3, 10, 10), 0.3, np.float32)
    picture[:, :4] = 0.9
    picture[0, 4:6] = 1.0  # one bright channel alone is no cloud
    assert estimate_cloud_cover(picture, ("a", "b", "c")) == pytest.approx(0.4)


def test_shape_must_fit_the_bands():
    with pytest.raises(InputError, match="expected"):
        estimate_cloud_cover(GROUND[:3], BANDS)


@pytest.mark.data
def test_estimate_follows_the_simulated_cover_on_real_ground(sample_data):
    dataset = open_dataset(f"eurosat:{sample_data / 'eurosat-ms'}")
    true, estimated, clear = [], [], []
    for index in range(0, len(dataset), 3):
        rng = np.random.default_rng(index)
        optical = dataset.pair(index)[0]
        cloudy, cover, _ = simulate_clouds(optical, BANDS, float(rng.uniform()), rng)
        true.append(cover)
        estimated.append(estimate_cloud_cover(cloudy * SCALE, BANDS))
        clear.append(estimate_cloud_cover(optical * SCALE, BANDS))
    assert np.corrcoef(true, estimated)[0, 1] > 0.97
    assert np.abs(np.subtract(true, estimated)).mean() < 0.04
    assert np.mean(clear) < 0.03 and np.quantile(clear, 0.95) < 0.12


@pytest.mark.data
def test_real_cloudy_images_are_far_cloudier_than_their_clear_partners(sample_data):
    rasterio = pytest.importorskip("rasterio")
    folder = sample_data / "sen12ms-cr"
    pairs = [
        (folder / "cloudy-clear/high_cp", "s2", "s2_cloudy"),
        (folder / "cloudy-clear/untagged", "s2", "s2_cloudy"),
        (folder / "triplet", "s2_cloudfree", "s2_cloudy"),
    ]
    for place, clear, cloudy in pairs:
        covers = []
        for part in (clear, cloudy):
            with rasterio.open(next((place / part).glob("*.tif"))) as raster:
                covers.append(estimate_cloud_cover(raster.read() * SCALE, BANDS))
        assert covers[0] < 0.02 and covers[1] > 0.25


@pytest.mark.data
def test_real_cloud_mask_is_matched_tile_by_tile(sample_data):
    with np.load(sample_data / "cloud-mask-s2" / "sentinel2.npz") as stored:
        image, mask = stored["img"].transpose(2, 0, 1), stored["msk"][..., 0] == 4
    likelihood = cloud_likelihood(image, VISIBLE_TO_SWIR)

    def tiles(field: np.ndarray) -> np.ndarray:
        return field.reshape(8, 64, 8, 64).mean(axis=(1, 3)).ravel()

    assert likelihood[mask].mean() > 0.75 and likelihood[~mask].mean() < 0.05
    assert np.corrcoef(tiles(likelihood), tiles(mask.astype(float)))[0, 1] > 0.95
