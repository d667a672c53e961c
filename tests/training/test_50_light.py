"""Another light keeps what is absent, the stored type and the cirrus band."""

from __future__ import annotations

import numpy as np
import pytest

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS as BANDS
from esccs_edge.errors import InputError
from esccs_edge.training.simulate.light import draw_light, path_radiance

CIRRUS, BLUE = BANDS.index("B10"), BANDS.index("B02")


def patch(dn: int = 1000, dtype=np.uint16) -> np.ndarray:
    return np.full((13, 8, 8), dn, dtype)


def test_haze_is_blue_and_never_touches_the_cirrus_band():
    hazy = draw_light(BANDS, np.random.default_rng(0), gains=(1.0, 1.0),
                        band_gain_std=0.0, haze=(0.03, 0.03)).on(patch()).astype(int)  # fmt: skip
    added = (hazy - 1000)[:, 0, 0]
    assert added[BLUE] == 300 and added[CIRRUS] == 0
    order = [BANDS.index(band) for band in ("B01", "B02", "B03", "B04", "B08", "B11", "B12")]
    assert (np.diff(added[order]) < 0).all()


def test_gain_stays_in_its_range_and_is_shared():
    for seed in range(30):
        changed = draw_light(BANDS, np.random.default_rng(seed), band_gain_std=0.0,
                               haze=(0.0, 0.0)).on(patch())  # fmt: skip
        assert np.ptp(changed) == 0 and 750 <= changed[0, 0, 0] <= 1250


def test_same_state_gives_the_same_light_and_the_input_is_untouched():
    clear = patch()
    first, second = (draw_light(BANDS, np.random.default_rng(4)).on(clear) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (clear == 1000).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_stored_types_saturate_and_keep_what_is_absent(dtype):
    full = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    bright = patch(1, dtype) * full
    bright[:, :3] = 0
    changed = draw_light(BANDS, np.random.default_rng(0), gains=(1.2, 1.2)).on(bright)
    assert changed.dtype == dtype
    assert not changed[:, :3].any() and changed[:, 3:].any(axis=0).all()
    if np.issubdtype(dtype, np.integer):
        assert changed.max() == full


def test_dark_pixels_do_not_become_absent():
    dark = np.zeros((13, 4, 4), np.uint16)
    dark[3] = 1
    changed = draw_light(BANDS, np.random.default_rng(0), gains=(0.2, 0.2), haze=(0, 0)).on(dark)
    assert changed.any(axis=0).all()


def test_absent_floats_stay_absent():
    pixels = patch(1, np.float32)
    pixels[:, 0] = np.nan
    assert not np.isfinite(draw_light(BANDS, np.random.default_rng(0)).on(pixels)[:, 0]).any()


def test_unknown_bands_share_one_haze():
    assert np.ptp(path_radiance(("a", "b"), 2.0)) == 0
    with pytest.raises(InputError, match="expected"):
        draw_light(BANDS[:3], np.random.default_rng(0)).on(patch())


def test_one_light_falls_on_several_images_alike():
    light = draw_light(BANDS, np.random.default_rng(1))
    both = np.concatenate([patch(1000), patch(2000)], axis=2)
    np.testing.assert_array_equal(light.on(both)[:, :, 8:], light.on(patch(2000)))
