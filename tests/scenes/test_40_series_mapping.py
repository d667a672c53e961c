"""Dated rasters mapped by models of series: slots, gaps, windows, and what was seen when."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.dated_rasters import (
    OPTICAL_DAYS,
    SAR_DAYS,
    FakeSeriesModel,
    season_images,
    write_season,
)
from support.mapping_parts import MANIFEST, FakeClassifier, everything_in
from support.rasters import north_up, write_raster
from support.small_series import series_manifest

from esccs_edge.contracts.modality import SampleSpec
from esccs_edge.contracts.values import NODATA
from esccs_edge.errors import BackendError, InputError, RasterError
from esccs_edge.scenes.map_reader import read_map
from esccs_edge.scenes.series_mapping import map_series

HEIGHT, WIDTH = 27, 21
SLOTS = {"optical": (0, 2, 2, 7), "sar": (0, 1, 11)}


@pytest.fixture(scope="module")
def images():
    return season_images(HEIGHT, WIDTH)


@pytest.fixture
def folder(tmp_path, images):
    return write_season(tmp_path / "season", images)


def placed(images) -> dict[str, np.ndarray]:
    """The series by a plain loop: the later image wins where it is valid."""
    optical = np.zeros((3, 12, HEIGHT, WIDTH), np.uint16)
    for slot, pixels in zip(SLOTS["optical"], images["optical"].values(), strict=True):
        for r in range(HEIGHT):
            for c in range(WIDTH):
                if pixels[:, r, c].any():
                    optical[:, slot, r, c] = pixels[:, r, c]
    sar = np.full((2, 12, HEIGHT, WIDTH), np.nan, np.float32)
    for slot, pixels in zip(SLOTS["sar"], images["sar"].values(), strict=True):
        sar[:, slot] = pixels
    return {"optical": optical, "sar": sar}


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (8, 8), (8, 5), (32, 16)])
def test_every_pixel_is_answered_by_its_own_series(tmp_path, folder, images, size, stride):
    model = FakeSeriesModel(series_manifest(size=size))
    summary = map_series(model, folder, tmp_path / "map.tif", stride=stride)
    found = read_map(tmp_path / "map.tif", WIDTH + HEIGHT)
    np.testing.assert_array_equal(found.classes, model.labels(placed(images)))
    assert {sample["optical"].shape for sample in model.samples} == {(3, 12, size, size)}
    assert summary.nodata_share == 0 and (found.confidence == 1).all()
    layers = {"gate_optical"} if size == 1 else set()
    assert found.layers.keys() == layers and found.grid.crs.to_epsg() == 32630


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (8, 5), (32, 32)])
def test_each_image_is_counted_once_however_windows_overlap(tmp_path, folder, images, size, stride):
    model = FakeSeriesModel(series_manifest(size=size))
    summary = map_series(model, folder, tmp_path / "map.tif", stride=stride)
    assert [str(one.file.date) for one in summary.images] == [*OPTICAL_DAYS, *SAR_DAYS]
    assert [one.slot for one in summary.images] == [*SLOTS["optical"], *SLOTS["sar"]]
    wanted = [1 - 10 * i / (HEIGHT * WIDTH) for i in range(4)] + [1.0] * 3
    assert [one.share for one in summary.images] == pytest.approx(wanted)
    assert summary.seen("optical")[2] == pytest.approx(wanted[1]) and summary.seen("sar")[2] == 0
    assert (summary.slots[0], summary.slots[-1]) == ("2021-09-01", "2022-08-01")
    document = json.loads(json.dumps(summary.to_dict()))
    assert document["images"][0]["date"] == "2021-09-03" and len(document["slots"]) == 12


class Stopping(FakeSeriesModel):
    """Fails at one of its answers."""

    def __init__(self, manifest, fail_at):
        super().__init__(manifest)
        self.fail_at = fail_at

    def answer(self, sample):
        if len(self.samples) > self.fail_at:
            raise BackendError("device lost")
        return super().answer(sample)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (8, 5)])
@pytest.mark.parametrize("at", [0.0, 0.4, 0.99])
def test_a_stopped_map_goes_on_and_counts_its_images_as_if_it_had_not(
    tmp_path, folder, size, stride, at
):
    manifest, options = series_manifest(size=size), {"stride": stride, "resume": "test"}
    whole = map_series(FakeSeriesModel(manifest), folder, tmp_path / "whole.tif", stride=stride)
    out = tmp_path / "map.tif"
    with pytest.raises(BackendError, match="device lost"):
        map_series(Stopping(manifest, int(at * whole.patches)), folder, out, **options)
    assert not out.exists() and (tmp_path / ".map.rows").is_dir()
    model = FakeSeriesModel(manifest)
    resumed = map_series(model, folder, out, **options)
    assert len(model.samples) < whole.patches or at == 0
    assert out.read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert resumed.images == whole.images and resumed.class_shares == whole.class_shares
    assert not (tmp_path / ".map.rows").exists()


def test_a_new_image_begins_a_stopped_map_anew(tmp_path, folder, images):
    manifest = series_manifest(size=8)
    with pytest.raises(BackendError, match="device lost"):
        map_series(Stopping(manifest, 20), folder, tmp_path / "map.tif", resume="test")
    write_other(folder, "optical_20220501.tif")
    model = FakeSeriesModel(manifest)
    summary = map_series(model, folder, tmp_path / "map.tif", resume="test")
    assert len(model.samples) == summary.patches


def test_what_no_date_shows_has_no_answer(tmp_path, images):
    alone = {"optical": {day: pixels.copy() for day, pixels in images["optical"].items()}}
    for pixels in alone["optical"].values():
        pixels[:, 20:, 3:9] = 0
    model = FakeSeriesModel(series_manifest(size=8))
    summary = map_series(model, write_season(tmp_path / "s", alone), tmp_path / "map.tif")
    unseen = np.zeros((HEIGHT, WIDTH), bool)
    unseen[20:, 3:9] = True
    np.testing.assert_array_equal(read_map(tmp_path / "map.tif", 99).classes == NODATA, unseen)
    assert summary.nodata_share == pytest.approx(unseen.mean())
    assert all(sample["sar"] is None for sample in model.samples)


def test_a_bundle_without_calendar_reads_as_many_images_as_it_learned_from(tmp_path, images):
    alone = {"optical": images["optical"]}
    folder = write_season(tmp_path / "s", alone)
    for dates, fits in ((4, True), (5, False)):
        manifest = series_manifest(dates, 8, ("optical",), sample=SampleSpec(8, 8, 10.0, dates))
        model = FakeSeriesModel(manifest)
        if fits:
            summary = map_series(model, folder, tmp_path / "map.tif")
            assert [one.slot for one in summary.images] == [0, 1, 2, 3] and summary.slots == ()
        else:
            with pytest.raises(InputError, match="4 optical images, expected 5"):
                map_series(model, folder, tmp_path / "other.tif")


def write_other(folder, name, change=lambda pixels: pixels, **profile):
    write_raster(folder / name, change(season_images(HEIGHT, WIDTH)["optical"]["2022-04-01"]),
                 **profile)  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: write_other(f, "optical_20211001.tif", lambda x: x.astype(np.float32) / 1e4),
         "read as"),
        (lambda f: write_other(f, "optical_20211001.tif",
                               transform=north_up(500_010.0, 4_600_000.0, 10, 10)), "grid"),
        (lambda f: write_other(f, "optical_20211001.tif",
                               transform=north_up(500_000.0, 4_600_000.0, 60, 60)), "grid"),
        (lambda f: write_other(f, "optical_20211001.tif", lambda x: x[:2]), "2 bands"),
        (lambda f: write_other(f, "optical_20221001.tif"), "out of the season"),
        (lambda f: write_other(f, "optical_2022-04-01.tif"), "one image a day"),
        (lambda f: (f / "optical_20211001.tif").write_bytes(b"no raster"), "optical_20211001"),
    ],
)  # fmt: skip
def test_a_folder_that_makes_no_series_is_refused_and_nothing_written(
    tmp_path, folder, spoil, message
):
    spoil(folder)
    before = everything_in(tmp_path)
    with pytest.raises((InputError, RasterError), match=message):
        map_series(FakeSeriesModel(series_manifest(size=8)), folder, tmp_path / "map.tif")
    assert everything_in(tmp_path) == before


def test_other_models_targets_and_strides_are_refused(tmp_path, folder):
    model = FakeSeriesModel(series_manifest(size=8))
    with pytest.raises(InputError, match="images of a single date"):
        map_series(FakeClassifier(MANIFEST), folder, tmp_path / "map.tif")
    with pytest.raises(InputError, match="stride is 9"):
        map_series(model, folder, tmp_path / "map.tif", stride=9)
    with pytest.raises(InputError, match="also an input"):
        map_series(model, folder, folder / "sar_20211005.tif", overwrite=True)
    (tmp_path / "map.tif").write_bytes(b"kept")
    with pytest.raises(RasterError, match="already exists"):
        map_series(model, folder, tmp_path / "map.tif")
    assert (tmp_path / "map.tif").read_bytes() == b"kept"
