"""A scene mapped by a segmentation student: windows without seams, layers, absent pixels."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from support.rasters import write_raster
from support.small_segmenter import SIDE, exported_segmenter, scene

from esccs_edge import Segmenter
from esccs_edge.contracts.values import NODATA
from esccs_edge.scenes.map_reader import read_map
from esccs_edge.scenes.map_writer import scores_path_of
from esccs_edge.scenes.palette import class_colors

pytest.importorskip("torch", reason="the small student is taught with torch")

HEIGHT, WIDTH = 352, 320


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    bundle = exported_segmenter(tmp_path_factory.mktemp("segmenter") / "bundle")
    with Segmenter(bundle, "cpu", precision="fp32") as made:
        yield made


@pytest.fixture(scope="module")
def ground():
    return scene(HEIGHT, WIDTH, 77)


@pytest.fixture(scope="module")
def rasters(tmp_path_factory, ground):
    folder = tmp_path_factory.mktemp("scene")
    optical = write_raster(folder / "s2.tif", ground.optical)
    return optical, write_raster(folder / "s1.tif", ground.sar)


def border_and_middle(wrong, stride):
    """Error of pixels beside the borders of windows, and in the middle between two borders."""
    errors = []
    for offset in (0, stride // 2):
        near = [(np.arange(n) + 1 - offset) % stride <= 1 for n in wrong.shape]
        lines = near[0][:, None] | near[1]
        lines[:SIDE], lines[-SIDE:], lines[:, :SIDE], lines[:, -SIDE:] = (False,) * 4
        errors.append(wrong[lines].mean())
    return errors


def test_borders_of_blended_windows_are_as_right_as_their_middle(
    tmp_path, segmenter, rasters, ground
):
    def errors(stride):
        segmenter.segment_scene(*rasters, tmp_path / "map.tif", stride=stride, overwrite=True)
        found = read_map(tmp_path / "map.tif", max(HEIGHT, WIDTH))
        return border_and_middle(found.classes != ground.classes, stride)

    border, middle = errors(SIDE)  # windows side by side: what blending is for
    assert border > 1.5 * middle
    for stride in (SIDE // 2, 3 * SIDE // 4):
        border, middle = errors(stride)
        assert border < 1.15 * middle + 0.002


def test_map_and_scores_say_class_confidence_share_and_clouds(tmp_path, segmenter, rasters, ground):
    summary = segmenter.segment_scene(*rasters, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        classes, table = dataset.read(1), dataset.colormap(1)
    colors = class_colors(segmenter.manifest.classes)
    assert [table[i][:3] for i in range(4)] == colors and table[NODATA][3] == 0
    assert (classes == ground.classes).mean() > 0.9
    with rasterio.open(scores_path_of(tmp_path / "map.tif")) as dataset:
        assert dataset.descriptions == ("confidence", "gate_optical", "cloud_affected")
        confidence, share, clouds = dataset.read()
    assert set(np.unique(clouds)) == {0, 100} and confidence.max() <= 100
    sure = np.abs(share.astype(int) - 50) > 1  # the share is rounded, the mask is not
    np.testing.assert_array_equal((clouds == 100)[sure], (share < 50)[sure])
    assert ((clouds == 100) == ground.cloud).mean() > 0.95
    means = summary.to_dict()
    assert means["mean_cloud_affected"] == pytest.approx((clouds == 100).mean(), abs=1e-6)
    assert means["mean_gate_optical"] == pytest.approx(share.mean() / 100, abs=0.01)
    assert means["nodata_share"] == 0


def test_a_scene_of_one_window_equals_the_answer_for_its_patch(tmp_path, segmenter):
    one = scene(SIDE, SIDE, 78)
    optical = write_raster(tmp_path / "s2.tif", one.optical)
    segmenter.segment_scene(optical, None, tmp_path / "map.tif")
    alone, found = segmenter.segment(one.optical, None), read_map(tmp_path / "map.tif", SIDE)
    assert (found.classes == alone.label).mean() > 0.99  # scores in 1 / 255 may tie
    assert np.abs(100 * found.confidence - alone.confidence).max() < 1.01
    assert (found.gate_optical == 1).all() and (found.layers["cloud_affected"] == 0).all()


def test_pixels_without_any_modality_stay_empty(tmp_path, segmenter, ground):
    optical, sar = ground.optical[:, :90, :70].copy(), ground.sar[:, :90, :70].copy()
    optical[:, :40], sar[:, 30:, :20] = 0, np.nan
    paths = [
        write_raster(tmp_path / f"{name}.tif", pixels)
        for name, pixels in (("s2", optical), ("s1", sar))
    ]
    segmenter.segment_scene(*paths, tmp_path / "map.tif")
    absent = np.zeros((90, 70), bool)
    absent[30:40, :20] = True
    with rasterio.open(tmp_path / "map.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1) == NODATA, absent)
    with rasterio.open(scores_path_of(tmp_path / "map.tif")) as dataset:
        for band in dataset.read():
            np.testing.assert_array_equal(band == NODATA, absent)
