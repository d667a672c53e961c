"""Untouched public files through the public API, with the hand-checkable model.

The model is not trained, so no answer here means anything; what is tested is that real files of
every layout reach it unchanged, alone and as whole scenes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from support.tiny import tiny_bundle

from esccs_edge import Classifier
from esccs_edge.contracts.values import Flag
from esccs_edge.errors import RasterError
from esccs_edge.rasters.band_files import read_band_files
from esccs_edge.rasters.channels import narrowed
from esccs_edge.rasters.reader import open_scene, read_patch, read_sample
from esccs_edge.scenes.map_reader import read_map
from esccs_edge.scenes.map_writer import NODATA
from esccs_edge.view.quicklook import draw_quicklook

pytestmark = pytest.mark.data

SIZE = 64
TRIPLET = "ROIs1970_fall_139_p839.tif"
CHIP = "Spain_7370579"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    with Classifier(tiny_bundle(tmp_path_factory.mktemp("tiny"), SIZE), backend="cpu") as opened:
        yield opened


@pytest.fixture
def triplet(sample_data):
    folder = sample_data / "sen12ms-cr" / "triplet"
    return {name: folder / name / TRIPLET for name in ("s1", "s2_cloudy", "s2_cloudfree")}


@pytest.fixture
def flood_chip(sample_data):
    folder = sample_data / "sen1floods11"
    return folder / "S2" / f"{CHIP}_S2Hand.tif", folder / "S1" / f"{CHIP}_S1Hand.tif"


def tiles(pixels: np.ndarray) -> list[np.ndarray]:
    """All whole ``SIZE`` x ``SIZE`` tiles, row by row."""
    rows, columns = (side // SIZE for side in pixels.shape[1:])
    return [
        pixels[:, r * SIZE : (r + 1) * SIZE, c * SIZE : (c + 1) * SIZE]
        for r in range(rows)
        for c in range(columns)
    ]


def as_stored(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


# SEN12MS-CR


@pytest.mark.parametrize("sky", ["s2_cloudy", "s2_cloudfree"])
def test_every_tile_of_the_triplet_is_judged_from_both_from_one_and_from_the_other(
    triplet, classifier, sky
):
    manifest = classifier.manifest
    paths = {"optical": triplet[sky], "sar": triplet["s1"]}
    optical, sar = read_sample(paths, manifest.modalities).values()
    np.testing.assert_array_equal(optical, as_stored(triplet[sky]))
    np.testing.assert_array_equal(sar, as_stored(triplet["s1"]))
    absent = [None] * 16
    for opticals, sars, share in (
        (tiles(optical), tiles(sar), 0.5),
        (tiles(optical), absent, 1.0),
        (absent, tiles(sar), 0.0),
    ):
        answers = classifier.classify_batch(opticals, sars)
        assert len(answers) == 16
        for answer in answers:
            assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
            assert answer.gate.optical == pytest.approx(share, abs=1e-6)
            assert Flag.RADIOMETRY_SUSPECT not in answer.flags
            assert Flag.PARTIAL_NODATA not in answer.flags


@pytest.mark.parametrize("sky", ["s2_cloudy", "s2_cloudfree"])
def test_a_scene_without_overlap_equals_its_tiles(triplet, classifier, sky, tmp_path):
    manifest = classifier.manifest
    summary = classifier.classify_scene(
        triplet[sky], triplet["s1"], tmp_path / "map.tif", stride=SIZE
    )
    paths = {"optical": triplet[sky], "sar": triplet["s1"]}
    optical, sar = read_sample(paths, manifest.modalities).values()
    answers = classifier.classify_batch(tiles(optical), tiles(sar))
    result = read_map(tmp_path / "map.tif", 256)
    for answer, block in zip(answers, tiles(result.classes[None]), strict=True):
        assert (block == manifest.classes.index(answer.label)).all()
    assert (summary.patches, summary.refused_patches, summary.nodata_share) == (16, 0, 0)


# Sen1Floods11: a 512 x 512 scene in degrees, int16 and float32


def test_the_flood_chip_becomes_a_map_and_a_picture(flood_chip, classifier, tmp_path):
    summary = classifier.classify_scene(*flood_chip, tmp_path / "map.tif")
    assert (summary.height, summary.width, summary.patches) == (512, 512, 225)
    assert summary.refused_patches == 0 and summary.nodata_share == 0
    with rasterio.open(tmp_path / "map.tif") as result, rasterio.open(flood_chip[0]) as optical:
        assert (result.crs, result.transform) == (optical.crs, optical.transform)
    paths = dict(zip(("optical", "sar"), flood_chip, strict=True))
    png = draw_quicklook(tmp_path / "quick.png", tmp_path / "map.tif", paths, classifier.manifest)
    assert png.read_bytes().startswith(b"\x89PNG")


def test_named_bands_of_the_chip_and_their_order_agree(flood_chip, classifier):
    """Its bands are described as B1..B12, which the reader follows; the order is the same."""
    with rasterio.open(flood_chip[0]) as dataset:
        assert dataset.descriptions[7:9] == ("B8", "B8A")
    read = read_patch(flood_chip[0], classifier.manifest.modalities["optical"])
    np.testing.assert_array_equal(read, as_stored(flood_chip[0]))


def test_absent_sar_of_a_chip_leaves_its_optical_answer(flood_chip, classifier, tmp_path):
    """The chip's SAR declares NaN as nodata; a copy of it gets a gap, as many chips have."""
    with rasterio.open(flood_chip[1]) as dataset:
        profile, sar = dataset.profile, dataset.read()
    sar[:, :256] = np.nan
    with rasterio.open(tmp_path / "gap.tif", "w", **profile) as dataset:
        dataset.write(sar)
    summary = classifier.classify_scene(flood_chip[0], tmp_path / "gap.tif", tmp_path / "map.tif")
    result = read_map(tmp_path / "map.tif", 512)
    assert summary.nodata_share == 0
    assert (result.gate_optical[:200] == 1).all()
    np.testing.assert_allclose(result.gate_optical[320:], 0.5, atol=0.005)
    alone = classifier.classify_scene(None, tmp_path / "gap.tif", tmp_path / "sar.tif")
    classes = read_map(tmp_path / "sar.tif", 512).classes
    assert (classes[:256] == NODATA).all() and (classes[256:] != NODATA).all()
    assert alone.nodata_share == pytest.approx(0.5)


# BigEarthNet: one file per band at three resolutions, S1 and S2 in folders of their own


def test_every_bigearthnet_pair_is_read_and_judged(bigearthnet, classifier):
    """The optical product is L2A, so B10 is filled; what a trained model makes of it is open."""
    manifest = classifier.manifest
    assert len(bigearthnet) == 6
    for files in bigearthnet.values():
        optical = read_band_files(files["S2"], manifest.modalities["optical"], fill={"B10": 15})
        sar = read_band_files(files["S1"], manifest.modalities["sar"])
        assert optical.shape == (13, 120, 120) and sar.shape == (2, 120, 120)
        assert optical.dtype == np.uint16 and sar.dtype == np.float32
        np.testing.assert_array_equal(optical[3], as_stored(files["S2"]["B04"])[0])
        answer = classifier.classify(optical[:, :SIZE, :SIZE], sar[:, :SIZE, :SIZE])
        assert answer.gate.optical == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
def test_coarse_bigearthnet_bands_keep_their_values(bigearthnet, classifier, resampling):
    spec = narrowed(classifier.manifest.modalities["optical"], ["B02", "B01", "B11"])
    for files in bigearthnet.values():
        patch = read_band_files(files["S2"], spec, resampling=resampling)
        for band, channel in zip(patch[1:], ("B01", "B11"), strict=True):
            coarse = as_stored(files["S2"][channel])[0]
            assert coarse.min() <= band.min() and band.max() <= coarse.max()
            step = len(band) // len(coarse)
            blocks = band.reshape(len(coarse), step, len(coarse), step).mean(axis=(1, 3))
            if resampling == "nearest":
                np.testing.assert_array_equal(blocks, coarse)
            else:  # smoothing moves single blocks, not the band
                assert blocks.mean() == pytest.approx(coarse.mean(), rel=0.02)


def test_bigearthnet_without_b10_is_refused_by_name(bigearthnet, classifier):
    files = next(iter(bigearthnet.values()))
    with pytest.raises(RasterError, match="no file for B10"):
        read_band_files(files["S2"], classifier.manifest.modalities["optical"])


# SAR alone: float64 (M3M-CR), one polarization with nodata -99 (geocoded GRD)


def test_float64_sar_is_judged_without_losing_its_fraction(sample_data, classifier):
    paths = sorted((sample_data / "m3m-cr" / "M3M-CR").glob("*/S1_*/*/*.tif"))
    assert len(paths) == 2
    for path in paths:
        sar = read_patch(path, classifier.manifest.modalities["sar"])
        stored = as_stored(path)
        assert stored.dtype == np.float64 and sar.dtype == np.float32
        np.testing.assert_allclose(sar, stored, rtol=1e-6)  # half a unit of float32
        answer = classifier.classify(None, sar[:, :SIZE, :SIZE])
        assert answer.gate.sar == 1 and Flag.MODALITY_MISSING in answer.flags


def test_a_single_polarization_is_refused_by_a_model_of_two(sample_data, classifier):
    (path,) = (sample_data / "s1-geocoded").glob("*.tif")
    with pytest.raises(RasterError, match="has 1 bands, expected 2: VV, VH"):
        read_patch(path, classifier.manifest.modalities["sar"])
    with rasterio.open(path) as dataset:
        stored, nodata = dataset.read(), dataset.nodata
    read = read_patch(path, narrowed(classifier.manifest.modalities["sar"], ["VV"]))
    assert nodata == -99
    np.testing.assert_array_equal(np.isnan(read), stored == nodata)
    np.testing.assert_array_equal(read[stored != nodata], stored[stored != nodata])


def test_files_of_two_places_are_refused(triplet, flood_chip, classifier):
    with pytest.raises(RasterError, match="512 x 512 and SAR 256 x 256"):
        open_scene(
            {"optical": flood_chip[0], "sar": triplet["s1"]}, classifier.manifest.modalities
        ).__enter__()
