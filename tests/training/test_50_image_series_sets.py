"""Data sets of image series: PASTIS, one's own index, and simulated seasons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.rasters import north_up, write_raster

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.errors import InputError, RasterError
from esccs_edge.training.datasets.pastis import BANDS, open_pastis
from esccs_edge.training.datasets.sen4agrinet import open_sen4agrinet
from esccs_edge.training.datasets.series import UNKNOWN
from esccs_edge.training.datasets.series_index import calendar_of, open_series_index
from esccs_edge.training.datasets.series_kinds import open_image_series
from esccs_edge.training.datasets.simulated_seasons import open_simulated_seasons
from esccs_edge.training.series_options import ImageSeriesOptions, SeriesSegmentationOptions
from esccs_edge.training.simulate.seasons import CLASSES, CROPS, greenness, simulate_season

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"
DATES = {
    "101": [20180920, 20181003, 20181028, 20190105],
    "102": [20180924, 20181110],
}


@pytest.fixture
def pastis(tmp_path):
    rng = np.random.default_rng(0)
    features = []
    for name in ("DATA_S2", "ANNOTATIONS"):
        (tmp_path / name).mkdir()
    for i, (patch, days) in enumerate(DATES.items()):
        images = rng.integers(1, 5000, (len(days), 10, 16, 16)).astype(np.int16)
        images[-1, :, 0, 0] = -10000
        images[0, 3, 1, 1] = -7
        labels = rng.integers(0, 20, (3, 16, 16)).astype(np.uint8)
        labels[0, 0, :2] = 19, 3
        np.save(tmp_path / "DATA_S2" / f"S2_{patch}.npy", images)
        np.save(tmp_path / "ANNOTATIONS" / f"TARGET_{patch}.npy", labels)
        about = {
            "ID_PATCH": int(patch), "Fold": i + 1,
            "dates-S2": {str(k): day for k, day in enumerate(days)},
        }  # fmt: skip
        features.append({"type": "Feature", "properties": about, "geometry": None})
    (tmp_path / "metadata.geojson").write_text(json.dumps({"features": features}))
    return tmp_path


def test_pastis_stands_in_the_months_of_one_calendar(pastis):
    found = open_pastis(pastis, held_out=0)
    assert found.size == (5, 16, 16) and found.calendar.months == (9, 10, 11, 12, 1)
    assert found.splits == ("test", "val") and found.channels["optical"] == BANDS
    stored = np.load(pastis / "DATA_S2" / "S2_101.npy")
    series = found.series(0)["optical"]
    assert series.shape == (10, 5, 16, 16) and series.dtype == np.uint16
    np.testing.assert_array_equal(series[:, 1], stored[2])  # the later of October
    np.testing.assert_array_equal(series[:, 2:4], 0)
    assert (series[:, 4, 0, 0] == 0).all() and series[3, 0, 1, 1] == 1
    assert (found.series(1)["optical"][:, [0, 2], 5, 5] > 0).all()
    labels = found.target(0)
    assert labels[0, 0] == UNKNOWN and labels[0, 1] == 3 and len(found.classes) == 19


def test_a_folder_that_is_not_pastis_is_refused(pastis):
    with pytest.raises(InputError, match="metadata.geojson"):
        open_pastis(pastis / "DATA_S2")
    np.save(pastis / "DATA_S2" / "S2_101.npy", np.zeros((3, 10, 16, 16), np.int16))
    with pytest.raises(InputError, match="patch 101"):
        open_pastis(pastis).series(0)
    (pastis / "DATA_S2" / "S2_101.npy").unlink()
    with pytest.raises(InputError, match="S2_101"):
        open_pastis(pastis)
    (pastis / "metadata.geojson").write_text('{"features": [{"properties": {"Fold": 1}}]}')
    with pytest.raises(InputError, match="ID_PATCH"):
        open_pastis(pastis)


@pytest.fixture
def sen4agrinet(tmp_path):
    """Patches of 48 pixels in four tiles; May has two images and one without data, July none."""
    h5py = pytest.importorskip("h5py", reason="its files are netCDF4")
    rng = np.random.default_rng(2)
    for tile in ("31TBF", "31TCF", "31TCG", "31TDF"):
        with h5py.File(tmp_path / f"2019_{tile}_patch_00_01.nc", "w") as stored:
            stored.attrs["patch_tile"], stored.attrs["patch_year"] = tile, "2019"
            codes = rng.choice([0, 110, 120, 770, 900], (48, 48)).astype(np.uint32)
            stored["labels/labels"] = codes
            for band in SENTINEL2_L1C_BANDS:
                side = {"B01": 8, "B09": 8, "B10": 8}.get(band, 24)
                side = 48 if band in ("B02", "B03", "B04", "B08") else side
                images = rng.integers(100, 4000, (5, side, side)).astype(np.uint16)
                images[3] = 0
                stored[f"{band}/{band}"] = images
                stored[f"{band}/time"] = np.array([0, 120, 130, 140, 230])
                stored[f"{band}/time"].attrs["units"] = "days since 2019-01-04 00:00:00"
    return tmp_path


def test_sen4agrinet_is_read_in_windows_of_monthly_medians(sen4agrinet):
    import h5py

    found = open_sen4agrinet(sen4agrinet, window=32)
    assert len(found) == 4 and found.size == (6, 32, 32) and len(set(found.splits)) == 3
    assert open_sen4agrinet(sen4agrinet, window=16).groups[::9] == found.groups
    assert found.groups == ("31TBF", "31TCF", "31TCG", "31TDF")
    series = found.series(0)["optical"]
    assert series.shape == (13, 6, 32, 32) and series.dtype == np.uint16
    assert [bool(series[:, slot].any()) for slot in range(6)] == [0, 1, 0, 0, 1, 0]
    file = next(iter(sorted(sen4agrinet.glob("*.nc"))))
    with h5py.File(file) as stored:
        blue, far = stored["B02/B02"][()].astype(int), stored["B10/B10"][()].astype(int)
        codes = stored["labels/labels"][()]
    np.testing.assert_allclose(series[1, 1], (blue[1] + blue[2])[:32, :32] / 2, atol=0.51)
    np.testing.assert_array_equal(series[10, 4], far[4].repeat(6, 0).repeat(6, 1)[:32, :32])
    labels = found.target(0)
    for code, number in ((0, UNKNOWN), (110, 0), (120, 1), (770, 10), (900, 11)):
        np.testing.assert_array_equal(labels == number, codes[:32, :32] == code)


def test_files_that_are_not_sen4agrinet_are_refused(sen4agrinet, tmp_path):
    import h5py

    with pytest.raises(InputError, match="no patch"):
        open_sen4agrinet(tmp_path / "nowhere")
    with pytest.raises(InputError, match="window of 176"):
        open_sen4agrinet(sen4agrinet)
    with h5py.File(sen4agrinet / "2019_31TBF_patch_00_01.nc", "r+") as stored:
        stored["B02/time"].attrs["units"] = "fortnights since 2019-01-01"
    with pytest.raises(InputError, match="fortnights"):
        open_sen4agrinet(sen4agrinet, window=16).series(0)
    (sen4agrinet / "a.nc").write_bytes(b"nothing")
    with pytest.raises(InputError, match="a.nc"):
        open_sen4agrinet(sen4agrinet, window=16)


@pytest.fixture
def own(tmp_path):
    """Two places: one with both sensors, one with SAR alone, a year later."""
    rng = np.random.default_rng(1)
    lines = ["series,target,group,split"]
    for place, year, days in (("a", 2021, ("1105", "1220")), ("b", 2022, ("1201",))):
        folder = tmp_path / place
        folder.mkdir()
        labels = rng.integers(0, 3, (1, 16, 16)).astype(np.uint8)
        labels[0, 0, 0] = 255
        write_raster(tmp_path / f"{place}.tif", labels, nodata=255)
        for day in days:
            write_raster(folder / f"s1_{year}{day}.tif",
                         rng.normal(-12, 2, (2, 16, 16)).astype(np.float32))  # fmt: skip
            if place == "a":
                write_raster(folder / f"s2_{year}{day}.tif",
                             rng.integers(1, 5000, (4, 16, 16)).astype(np.uint16),
                             descriptions=("B02", "B03", "B04", "B08"))  # fmt: skip
        lines.append(f"{place},{place}.tif,{place},{'train' if place == 'a' else 'test'}")
    (tmp_path / "index.csv").write_text("\n".join(lines))
    return tmp_path


CLASS_NAMES = ("x", "y", "z")


def test_own_series_are_read_by_sensor_and_month(own):
    found = open_series_index(own / "index.csv", CLASS_NAMES, "month")
    assert found.calendar.months == (11, 12) and found.size == (2, 16, 16)
    assert found.channels == {"optical": ("B02", "B03", "B04", "B08"), "sar": ("VV", "VH")}
    first, second = found.series(0), found.series(1)
    assert (first["optical"] > 0).all() and np.isfinite(first["sar"]).all()
    assert np.isnan(second["sar"][:, 0]).all() and np.isfinite(second["sar"][:, 1]).all()
    assert not np.isfinite(second["optical"]).any()
    assert found.target(0)[0, 0] == UNKNOWN and set(np.unique(found.target(1))) <= {-1, 0, 1, 2}
    dekads = open_series_index(own / "index.csv", CLASS_NAMES, "dekad")
    assert np.isfinite(dekads.series(0)["sar"][0]).all(axis=(1, 2)).nonzero()[0].tolist() == [0, 4]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.write_text("series,target,group,split\na,c.tif,a,train\n"), "does not exist"),
        (lambda p: p.write_text("series,target,group,split\na,a.tif,a,dev\n"), "line 2"),
        (lambda p: p.write_text("series,target\na,a.tif\n"), "line 2"),
        (lambda p: p.write_text("series,target,group,split\n"), "names no series"),
        (lambda p: p.write_text("series,target,group,split\na,a.tif,a,train\nb,b.tif,a,test\n"),
         "two|splits"),
        (lambda p: p.write_text("series,target,group,split\nc,a.tif,a,train\n"), "neither"),
        (lambda p: (p.parent / "a" / "s1.tif").write_bytes(b""), "no date"),
    ],
)  # fmt: skip
def test_an_index_that_makes_no_data_set_is_refused(own, spoil, message):
    spoil(own / "index.csv")
    with pytest.raises((InputError, RasterError), match=message):
        open_series_index(own / "index.csv", CLASS_NAMES, "month")


def test_labels_of_another_place_are_refused(own):
    found = open_series_index(own / "index.csv", CLASS_NAMES, "month")
    labels = np.zeros((1, 16, 16), np.uint8)
    write_raster(own / "a.tif", labels, transform=north_up(500_160.0, 4_600_000.0, 10, 10))
    with pytest.raises(RasterError, match="16 pixels apart"):
        found.target(0)


def test_rasters_that_do_not_fit_one_another_are_refused(own):
    with pytest.raises(InputError, match="no class names"):
        open_series_index(own / "index.csv", (), "month")
    with pytest.raises(InputError, match="at most 0"):
        open_series_index(own / "index.csv", ("x",), "month").target(0)
    pixels = np.ones((2, 16, 16), np.float32)
    write_raster(own / "a" / "s1_20211225.tif", pixels,
                 transform=north_up(500_010.0, 4_600_000.0, 10, 10))  # fmt: skip
    with pytest.raises(RasterError, match="grid"):
        open_series_index(own / "index.csv", CLASS_NAMES, "month").series(0)


def test_the_calendar_is_the_shortest_that_holds_all_series():
    def days(*texts):
        return np.array(texts, "datetime64[D]")

    found = calendar_of(
        [days("2020-11-30", "2021-03-01"), days("2022-12-01", "2023-04-02")], "month"
    )
    assert (found.months[0], len(found.starts), found.end) == (11, 6, "05-01")
    with pytest.raises(InputError, match="13 months"):
        calendar_of([days("2020-01-01", "2021-01-01")], "month")


def test_a_simulated_season_is_drawn_by_its_seed_and_called_simulated():
    first, again, other = simulate_season(3, 32), simulate_season(3, 32), simulate_season(4, 32)
    np.testing.assert_array_equal(first.optical, again.optical)
    assert (first.labels != other.labels).any()
    assert ((first.optical == 0).all(axis=0) == first.cloudy).all()
    assert np.isfinite(first.sar).all() and -30 < first.sar.mean() < -5
    found = open_simulated_seasons("2")
    assert found.simulated == ("optical", "sar", "clouds") and "simulated" in found.name
    assert found.splits.count("train") == 36 and len(set(found.groups)) == len(found) == 60
    with pytest.raises(InputError, match="'x'"):
        open_simulated_seasons("x")


def test_crops_of_a_simulated_season_green_in_their_own_time():
    green = np.array([[greenness(crop, day) for day in (105, 165, 225)] for crop in CROPS])
    names = list(CLASSES)
    assert green[names.index("winter cereals"), 0] > 0.8 > 0.3 > green[names.index("maize"), 0]
    assert green[names.index("maize"), 2] > 0.8 > 0.1 > green[names.index("winter cereals"), 2]


def test_other_kinds_are_refused():
    with pytest.raises(InputError, match="fcn3d:FILE.hdf5, pastis:FOLDER"):
        open_image_series("worldcereal:x", ImageSeriesOptions())
    assert open_image_series("simulated:0", ImageSeriesOptions()).size == (8, 32, 32)


def test_the_simulated_recipe_learns_from_the_sensor_that_is_asked_for(tmp_path):
    pytest.importorskip("torch", reason="training needs torch")
    from esccs_edge.training.options_file import read_options
    from esccs_edge.training.stages.series.segmentation_run import SegmentationRun

    file = CONFIGS / "simulated-crops.toml"
    options = read_options(file, data="simulated:0", out=str(tmp_path))
    assert isinstance(options, SeriesSegmentationOptions)
    dataset = open_image_series(options.data, options.series)
    assert list(SegmentationRun.open(options, dataset, tmp_path).modalities) == ["optical"]
    radar = options.evolve(series=ImageSeriesOptions(sensor="sar"))
    ((name, spec),) = SegmentationRun.open(radar, dataset, tmp_path).modalities.items()
    assert name == "sar" and spec.channels == ("VV", "VH") and spec.unit == "dB"
    assert -25 < spec.mean[1] < spec.mean[0] < -5
