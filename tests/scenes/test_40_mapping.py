"""Whole scenes: blending against a plain loop, and maps that hold the answers of their patches."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mapping_parts import MANIFEST, FakeClassifier, everything_in
from support.rasters import NORTH_UP, UTM, random_scene, write_raster
from support.tiny import tiny_bundle, tiny_manifest

from esccs_edge.classifier import Classifier
from esccs_edge.contracts.values import NODATA_LABEL
from esccs_edge.errors import InputError
from esccs_edge.scenes import scene_run
from esccs_edge.scenes.blending import Blender, winning
from esccs_edge.scenes.map_reader import read_map
from esccs_edge.scenes.map_writer import NODATA, scores_path_of
from esccs_edge.scenes.mapping import classify_scene
from esccs_edge.scenes.tiling import Tiling, positions, window_weights

#: Sums of float32 products in another order than the plain loop's float64.
BLEND_RTOL = 1e-5


def plain_map(classifier, optical, sar, stride):
    """The slow twin of `classify_scene`: whole arrays, one pixel's weight at a time."""
    size, classes = classifier.manifest.sample.height, classifier.manifest.classes
    present = optical if optical is not None else sar
    height, width = present.shape[1:]
    weight = np.outer(window_weights(size), window_weights(size)).astype(float)
    total = np.zeros((height, width))
    layers = np.zeros((len(classes) + 1, height, width))
    for row in positions(height, size, stride):
        for column in positions(width, size, stride):
            patch = [_padded(a, row, column, size) for a in (optical, sar)]
            answer = classifier.answer(*patch)
            if answer.label == NODATA_LABEL:
                continue
            values = [answer.probabilities[name] for name in classes] + [answer.gate.optical]
            for y in range(row, min(row + size, height)):
                for x in range(column, min(column + size, width)):
                    total[y, x] += weight[y - row, x - column]
                    layers[:, y, x] += weight[y - row, x - column] * np.array(values)
    valid = np.zeros((height, width), bool)
    if optical is not None:
        valid |= ~(optical == 0).all(axis=0)
    if sar is not None:
        valid |= np.isfinite(sar).all(axis=0) & ~(sar == 0).all(axis=0)
    with np.errstate(invalid="ignore"):
        return np.where(valid & (total > 0), layers / total, np.nan)


def _padded(pixels, row, column, size):
    if pixels is None:
        return None
    cut = pixels[:, row : row + size, column : column + size]
    absent = np.nan if cut.dtype.kind == "f" else 0
    grow = ((0, 0), (0, size - cut.shape[1]), (0, size - cut.shape[2]))
    return np.pad(cut, grow, constant_values=absent)


def with_holes(optical, sar, seed):
    """Absent rectangles: in one modality, and one in both."""
    rng = np.random.default_rng(seed)
    height, width = optical.shape[1:]
    for both in (False, True):
        y, x = int(rng.integers(height)), int(rng.integers(width))
        optical[:, y : y + 12, x : x + 12] = 0
        if both:
            sar[:, y : y + 12, x : x + 12] = np.nan
    return optical, sar


@pytest.fixture
def scene(tmp_path):
    optical, sar = random_scene(MANIFEST, 37, 29)
    return write_raster(tmp_path / "o.tif", optical), write_raster(tmp_path / "s.tif", sar)


# Tiling and blending


@pytest.mark.fault(41)
@given(st.integers(1, 400), st.integers(1, 70), st.data())
def test_patches_cover_a_side_and_stay_inside(length, size, data):
    stride = data.draw(st.integers(1, size))
    starts = positions(length, size, stride)
    assert starts == sorted(set(starts)) and starts[0] == 0
    assert set().union(*(range(s, s + size) for s in starts)) >= set(range(length))
    assert starts[-1] + size == max(length, size)
    assert max(np.diff(starts), default=0) <= stride


@pytest.mark.fault(41)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.data())
def test_every_pixel_row_is_finished_exactly_once(height, width, size, data):
    tiling = Tiling.of(height, width, size, data.draw(st.integers(1, size)))
    finished = [y for i in range(len(tiling.rows)) for y in tiling.finished_rows(i)]
    assert finished == list(range(height))


@pytest.mark.parametrize("size", [2, 16, 64])
def test_weights_at_half_overlap_sum_to_one_and_none_is_zero(size):
    weights = window_weights(size)
    np.testing.assert_allclose(weights[: size // 2] + weights[size // 2 :], 1, rtol=1e-6)
    assert weights.min() > 0


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 50), st.integers(1, 20), st.integers(0, 2**31), st.data())
def test_blending_equals_a_loop_over_whole_arrays(height, width, size, seed, data):
    tiling = Tiling.of(height, width, size, data.draw(st.integers(1, size)))
    rng = np.random.default_rng(seed)
    values = rng.random((len(tiling.rows), len(tiling.columns), 3), np.float32)
    is_judged = rng.random(values.shape[:2]) < 0.8
    total = np.zeros((1, height, width))
    layers = np.zeros((3, height, width))
    weight = np.outer(window_weights(size), window_weights(size)).astype(float)
    for i, row in enumerate(tiling.rows):
        for k, column in enumerate(tiling.columns):
            if is_judged[i, k]:
                where = np.s_[:, row : row + size, column : column + size]
                part = weight[: height - row, : width - column]
                total[where] += part
                layers[where] += values[i, k][:, None, None] * part
    blender = Blender(tiling, 3)
    blended = []
    for i in range(len(tiling.rows)):
        for k in np.flatnonzero(is_judged[i]):
            blender.add(i, int(k), values[i, k])
        blended += [rows for _, rows in blender.finished(i)]
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(np.concatenate(blended, axis=1), layers / total, BLEND_RTOL)


@given(st.integers(1, 255), st.integers(1, 9), st.integers(0, 2**31))
def test_the_winning_class_is_the_first_of_the_most_probable(classes, width, seed):
    steps = np.random.default_rng(seed).integers(0, 4, (classes, 2, width))  # many are equal
    probabilities = (steps / 4).astype(np.float32)
    winners, highest = winning(probabilities)
    np.testing.assert_array_equal(winners, probabilities.argmax(axis=0))
    np.testing.assert_array_equal(highest, probabilities.max(axis=0))
    assert winners.dtype == np.uint8


# Maps


@pytest.mark.fault(41)
@pytest.mark.parametrize("size", [(37, 29), (16, 16), (8, 8), (5, 30), (30, 1), (1, 1), (9, 8)])
@pytest.mark.parametrize("stride", [None, 3, 8])
def test_a_map_equals_the_plain_loop_at_every_pixel(tmp_path, size, stride):
    optical, sar = with_holes(*random_scene(MANIFEST, *size, seed=3), seed=sum(size))
    classifier = FakeClassifier()
    summary = classify_scene(
        classifier,
        write_raster(tmp_path / "o.tif", optical),
        write_raster(tmp_path / "s.tif", sar),
        tmp_path / "map.tif",
        stride=stride,
    )
    expected = plain_map(classifier, optical, sar, stride or 4)
    result = read_map(tmp_path / "map.tif", max(size))
    answered = np.isfinite(expected[0])
    np.testing.assert_array_equal(result.classes == NODATA, ~answered)
    np.testing.assert_array_equal(np.isnan(result.gate_optical), ~answered)
    top = np.sort(expected[:-1][:, answered], axis=0)
    clear = top[-1] - top[-2] > 1e-5  # a tie may fall to either class
    winners = expected[:-1].argmax(axis=0)[answered]
    np.testing.assert_array_equal(result.classes[answered][clear], winners[clear])
    # Scores are whole percents.
    np.testing.assert_allclose(result.confidence[answered], top[-1], atol=0.00501)
    np.testing.assert_allclose(result.gate_optical[answered], expected[-1][answered], atol=0.00501)
    assert summary.nodata_share == pytest.approx(1 - answered.mean())
    if answered.any():
        assert sum(summary.class_shares.values()) == pytest.approx(1)
        assert summary.mean_confidence == pytest.approx(top[-1].mean(), rel=1e-5)
        assert summary.mean_gate_optical == pytest.approx(expected[-1][answered].mean(), rel=1e-5)


def test_a_wide_scene_is_read_in_parts_with_the_same_result(tmp_path, scene, monkeypatch):
    classify_scene(FakeClassifier(), *scene, tmp_path / "whole.tif")
    monkeypatch.setattr(scene_run, "COLUMNS_AT_ONCE", 9)
    classify_scene(FakeClassifier(), *scene, tmp_path / "parts.tif")
    assert (tmp_path / "parts.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_a_scene_without_a_place_is_mapped_without_one(tmp_path):
    nowhere = {"crs": None, "transform": None}
    optical = write_raster(tmp_path / "o.tif", random_scene(MANIFEST, 20, 20)[0], **nowhere)
    classify_scene(FakeClassifier(), optical, None, tmp_path / "map.tif")
    assert not read_map(tmp_path / "map.tif", 20).grid.is_georeferenced


@pytest.mark.fault(84)
def test_two_scenes_at_once_do_not_mix(tmp_path):
    paths = [
        write_raster(tmp_path / f"{i}.tif", random_scene(MANIFEST, 40, 40, seed=i)[0])
        for i in range(4)
    ]

    def mapped(i):
        return classify_scene(FakeClassifier(), paths[i], None, tmp_path / f"map{i}.tif")

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(mapped, range(4)))
    for i, summary in enumerate(together):
        alone = classify_scene(
            FakeClassifier(), paths[i], None, tmp_path / "alone.tif", overwrite=True
        )
        assert (tmp_path / "alone.tif").read_bytes() == (tmp_path / f"map{i}.tif").read_bytes()
        assert alone.class_shares == summary.class_shares


@pytest.mark.parametrize("present", ["optical", "sar"])
def test_one_modality_is_enough(tmp_path, scene, present):
    optical, sar = (scene[0], None) if present == "optical" else (None, scene[1])
    summary = classify_scene(FakeClassifier(), optical, sar, tmp_path / "map.tif")
    assert summary.nodata_share == 0


def test_a_scene_without_valid_pixels_gives_a_map_without_answers(tmp_path):
    optical = write_raster(tmp_path / "o.tif", np.zeros((13, 20, 20), np.uint16))
    summary = classify_scene(FakeClassifier(), optical, None, tmp_path / "map.tif")
    assert summary.nodata_share == 1 and summary.mean_confidence is None
    assert (read_map(tmp_path / "map.tif", 20).classes == NODATA).all()
    json.dumps(summary.to_dict(), allow_nan=False)


def test_the_map_is_a_cog_that_explains_itself(tmp_path):
    optical = write_raster(tmp_path / "o.tif", random_scene(MANIFEST, 600, 520)[0])
    classify_scene(FakeClassifier(tiny_manifest(64)), optical, None, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2]
        assert (dataset.crs, dataset.transform) == (rasterio.CRS.from_string(UTM), NORTH_UP)
        assert (dataset.shape, dataset.dtypes, dataset.nodata) == ((600, 520), ("uint8",), 255)
        assert json.loads(dataset.tags()["CLASSES"]) == list(MANIFEST.classes)
        assert dataset.descriptions == ("class",)
        assert dataset.colormap(1)[255][3] == 0 and dataset.colormap(1)[0] == (30, 110, 55, 255)
    with rasterio.open(scores_path_of(tmp_path / "map.tif")) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.descriptions == ("confidence", "gate_optical")
        assert dataset.scales == (0.01, 0.01) and dataset.nodata == 255
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.scores.tif", "map.tif", "o.tif"]


def test_progress_counts_every_patch(tmp_path, scene):
    seen = []
    summary = classify_scene(
        FakeClassifier(), *scene, tmp_path / "map.tif", progress=lambda *done: seen.append(done)
    )
    assert seen == [(i + 1, summary.patches) for i in range(summary.patches)]


def test_the_real_classifier_maps_what_it_answers_patch_by_patch(tmp_path):
    optical, sar = random_scene(MANIFEST, 24, 24)
    paths = write_raster(tmp_path / "o.tif", optical), write_raster(tmp_path / "s.tif", sar)
    with Classifier(tiny_bundle(tmp_path / "bundle", 8), backend="cpu") as classifier:
        summary = classifier.classify_scene(*paths, tmp_path / "map.tif", stride=8)
        alone = classifier.classify(optical[:, 8:16, :8], sar[:, 8:16, :8])
    result = read_map(tmp_path / "map.tif", 24)
    assert summary.patches == 9
    block = result.classes[8:16, :8]  # at this stride nothing overlaps
    assert (block == MANIFEST.classes.index(alone.label)).all()
    np.testing.assert_allclose(result.confidence[8:16, :8], alone.confidence, atol=0.0051)


# Patches without an answer


def test_refused_patches_are_counted_and_leave_nodata(tmp_path, scene):
    classifier = FakeClassifier(fail_at=16, error=InputError("the scale looks wrong"))
    summary = classify_scene(classifier, *scene, tmp_path / "map.tif", stride=8)
    assert (summary.patches, summary.refused_patches) == (20, 4)
    classes = read_map(tmp_path / "map.tif", 37).classes
    # The last row of patches begins at 29; above it all is answered, below row 31 nothing is.
    assert (classes[:29] != NODATA).all() and (classes[32:] == NODATA).all()


def test_a_scene_refused_as_a_whole_raises_the_first_refusal(tmp_path, scene):
    before = everything_in(tmp_path)
    refusal = InputError("the scale looks wrong")
    with pytest.raises(InputError, match="the scale looks wrong"):
        classify_scene(FakeClassifier(fail_at=0, error=refusal), *scene, tmp_path / "map.tif")
    assert everything_in(tmp_path) == before


# Size


@pytest.mark.fault(42)
def test_memory_does_not_grow_with_the_height_of_a_scene(tmp_path):
    """Peak memory of a scene of 20,000 rows: its pixels alone are 166 MB."""
    path = tmp_path / "tall.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=320, height=20_000, count=13, dtype="uint16",
        tiled=True, blockxsize=256, blockysize=256, sparse_ok=True, crs=UTM, transform=NORTH_UP,
    ) as dataset:  # fmt: skip
        dataset.write(np.full((13, 8, 320), 900, np.uint16), window=((19_000, 19_008), (0, 320)))
    script = f"""
import resource, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
import rasterio
from test_40_mapping import FakeClassifier, classify_scene, tiny_manifest
peak_mb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak_mb()
with rasterio.Env(GDAL_CACHEMAX=16):
    summary = classify_scene(FakeClassifier(tiny_manifest(64)), {str(path)!r}, None,
                             {str(tmp_path / "map.tif")!r}, stride=64)
assert summary.nodata_share > 0.99 and summary.mean_confidence is not None
print(peak_mb() - before)
"""
    started = time.perf_counter()
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=120, text=True
    )
    assert child.returncode == 0, child.stderr
    assert float(child.stdout) < 100, f"{child.stdout} MB, {time.perf_counter() - started:.1f} s"
