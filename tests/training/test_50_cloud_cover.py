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
    assert estimate_cloud_cover(GROUND, BANDS) < 0.03
    assert estimate_cloud_cover(CLOUD, BANDS) > 0.99


def test_half_a_cloud_is_half_covered_in_any_band_set():
    half = np.repeat(GROUND, 4, axis=1)
    half[:, :32] = np.repeat(CLOUD, 2, axis=1)
    for bands in (BANDS, SENTINEL2_L2A_BANDS, VISIBLE_TO_SWIR, ("B04", "B03", "B02")):
        keep = [BANDS.index(band) for band in bands]
        # Masks of clouds have a margin of two pixels.
        assert 0.49 < estimate_cloud_cover(half[keep], bands) < 0.5 + 3 / 64


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
    assert estimate_cloud_cover(half, BANDS) > 0.99
    half[:, :8] = np.nan
    assert estimate_cloud_cover(half, BANDS) > 0.99
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
    true, estimated = [], []
    for index in range(0, len(dataset), 3):
        rng = np.random.default_rng(index)
        optical = dataset.pair(index)[0]
        cloudy, cover, _ = simulate_clouds(optical, BANDS, float(rng.uniform()), rng)
        true.append(cover)
        estimated.append(estimate_cloud_cover(cloudy * SCALE, BANDS))
    # The estimate was fitted to real masks and never saw a simulated cloud.
    assert np.corrcoef(true, estimated)[0, 1] > 0.92
    assert np.abs(np.subtract(true, estimated)).mean() < 0.12


@pytest.mark.data
def test_real_cloudy_images_are_far_cloudier_than_their_clear_partners(sample_data):
    rasterio = pytest.importorskip("rasterio")
    folder = sample_data / "sen12ms-cr"
    pairs = [
        # A veil of cirrus lies over this clear image (B10 is 0.043 throughout).
        (folder / "cloudy-clear/high_cp", "s2", "s2_cloudy", 0.25),
        (folder / "cloudy-clear/untagged", "s2", "s2_cloudy", 0.02),
        (folder / "triplet", "s2_cloudfree", "s2_cloudy", 0.05),
    ]
    for place, clear, cloudy, bound in pairs:
        covers = []
        for part in (clear, cloudy):
            with rasterio.open(next((place / part).glob("*.tif"))) as raster:
                covers.append(estimate_cloud_cover(raster.read() * SCALE, BANDS))
        assert covers[0] < bound and covers[1] > 0.35


@pytest.mark.data
def test_real_cloud_mask_is_matched_tile_by_tile(sample_data):
    with np.load(sample_data / "cloud-mask-s2" / "sentinel2.npz") as stored:
        image, mask = stored["img"].transpose(2, 0, 1), stored["msk"][..., 0] == 4
    likelihood = cloud_likelihood(image, VISIBLE_TO_SWIR)

    def tiles(field: np.ndarray) -> np.ndarray:
        return field.reshape(8, 64, 8, 64).mean(axis=(1, 3)).ravel()

    assert likelihood[mask].mean() > 0.85 and likelihood[~mask].mean() < 0.06
    assert np.corrcoef(tiles(likelihood), tiles(mask.astype(float)))[0, 1] > 0.95


@pytest.fixture(scope="module")
def triplets(sample_data):
    """Reflectance of real cloudy and clear images, and masks that s2cloudless made."""
    with np.load(sample_data / "sen12ms-cr" / "triplets.npz") as stored:
        cloudy, clear = (stored[name] * SCALE for name in ("cloudy", "clear"))
        return cloudy, clear, stored["mask"] > 0


@pytest.mark.data
@pytest.mark.parametrize("left_out", [(), ("B10",), ("B01", "B09", "B10")])
def test_estimate_agrees_with_s2cloudless(triplets, left_out):
    cloudy, clear, mask = triplets
    bands = tuple(band for band in BANDS if band not in left_out)
    keep = [BANDS.index(band) for band in bands]
    said = np.stack([cloud_likelihood(image[keep], bands) > 0.5 for image in cloudy])
    assert (said & mask).sum() / mask.sum() > 0.85
    assert (said & mask).sum() / said.sum() > 0.95
    alarms = np.mean([cloud_likelihood(image[keep], bands) for image in clear])
    assert alarms < 0.04


@pytest.mark.data
@pytest.mark.parametrize(
    ("gain", "offset", "recall", "precision"),
    [(0.8, 0.0, 0.70, 0.98), (1.2, 0.0, 0.93, 0.87), (1.0, 0.02, 0.93, 0.89),
     (1.0, -0.02, 0.78, 0.98)],
)  # fmt: skip
def test_agreement_lasts_under_another_light(triplets, gain, offset, recall, precision):
    cloudy, _, mask = triplets
    light = np.maximum(cloudy[:, :, ::2, ::2] * np.float32(gain), SCALE)
    light[:, :10] = np.maximum(light[:, :10] + np.float32(offset), SCALE)
    said = np.stack([cloud_likelihood(image, BANDS) > 0.5 for image in light])
    both = (said & mask[:, ::2, ::2]).sum()
    assert both / mask[:, ::2, ::2].sum() > recall and both / said.sum() > precision


@pytest.mark.data
def test_clear_patches_raise_few_alarms(sample_data):
    dataset = open_dataset(f"eurosat:{sample_data / 'eurosat-ms'}")
    covers = [
        estimate_cloud_cover(dataset.pair(index)[0] * SCALE, BANDS)
        for index in range(0, len(dataset), 4)
    ]
    assert np.mean(covers) < 0.025 and np.quantile(covers, 0.95) < 0.12
