"""A map that was stopped goes on from its finished rows, and ends as if it had not been stopped."""

from __future__ import annotations

import os

import numpy as np
import pytest
import rasterio
from support.mapping_parts import MANIFEST, FakeClassifier, everything_in
from support.rasters import random_scene, write_raster

from esccs_edge.errors import BackendError, InputError, RasterError
from esccs_edge.scenes.finished_rows import finished_rows
from esccs_edge.scenes.mapping import classify_scene

ROWS = ".map.rows"


class Counting(FakeClassifier):
    """Counts what it is asked."""

    def __init__(self, **options):
        super().__init__(**options)
        self.asked = 0

    def stream(self, pairs):
        for answer in super().stream(pairs):
            self.asked += 1
            yield answer


@pytest.fixture
def scene(tmp_path):
    optical, sar = random_scene(MANIFEST, 45, 29)
    optical[:, 10:20, :9] = 0
    sar[:, 12:20, :9] = np.nan
    return write_raster(tmp_path / "o.tif", optical), write_raster(tmp_path / "s.tif", sar)


def stopped(scene, out, fail_at, **options):
    classifier = Counting(fail_at=fail_at, error=BackendError("device lost"))
    with pytest.raises(BackendError, match="device lost"):
        classify_scene(classifier, *scene, out, resume="test", **options)
    return classifier.asked


def maps(folder):
    return [(folder / name).read_bytes() for name in ("map.tif", "map.scores.tif")]


@pytest.mark.fault(47)
@pytest.mark.parametrize("stride", [8, 4, 3])
@pytest.mark.parametrize("fail_at", [0, 1, 20, 40])
def test_a_resumed_map_has_the_bytes_of_one_without_a_stop(tmp_path, scene, fail_at, stride):
    (tmp_path / "whole").mkdir()
    whole = classify_scene(FakeClassifier(), *scene, tmp_path / "whole" / "map.tif", stride=stride)
    stopped(scene, tmp_path / "map.tif", min(fail_at, whole.patches - 1), stride=stride)
    assert not (tmp_path / "map.tif").exists()
    resumed = classify_scene(
        FakeClassifier(), *scene, tmp_path / "map.tif", stride=stride, resume="test"
    )
    assert maps(tmp_path) == maps(tmp_path / "whole")
    for name in (
        "class_shares",
        "mean_confidence",
        "mean_layers",
        "nodata_share",
        "patches",
        "flagged_patches",
    ):
        assert getattr(resumed, name) == getattr(whole, name)
    assert not (tmp_path / ROWS).exists()


@pytest.mark.fault(47)
def test_only_what_is_missing_is_asked_for(tmp_path, scene):
    """7 patches in a row; of 4 finished rows, one is asked again since the next blends with it."""
    out = tmp_path / "map.tif"
    assert stopped(scene, out, 30) == 31
    assert stopped(scene, out, 0) == 1
    classifier = Counting()
    summary = classify_scene(classifier, *scene, out, resume="test")
    assert classifier.asked == summary.patches - 3 * 7


def test_progress_goes_on_where_it_stopped(tmp_path, scene):
    out, seen = tmp_path / "map.tif", []
    stopped(scene, out, 30)
    classify_scene(
        FakeClassifier(), *scene, out, resume="test", progress=lambda *at: seen.append(at)
    )
    assert seen[0][0] == 22 and seen[-1][0] == seen[-1][1]


@pytest.mark.fault(47)
@pytest.mark.parametrize(
    "change", ["raster", "how", "stride", "row cut", "row damaged", "row of another"]
)
def test_rows_of_another_run_are_not_used(tmp_path, scene, change):
    out, options, how = tmp_path / "map.tif", {}, "test"
    stopped(scene, out, 30)
    if change == "raster":
        with rasterio.open(scene[0], "r+") as dataset:
            dataset.write(dataset.read()[:, ::-1])
        os.utime(scene[0], (1, 1))
    elif change == "how":
        how = "another precision"
    elif change == "stride":
        options = {"stride": 5}
    elif change == "row cut":
        (tmp_path / ROWS / "row-000000.npz").write_bytes(b"PK")
    elif change == "row damaged":
        row = tmp_path / ROWS / "row-000000.npz"
        content = bytearray(row.read_bytes())
        content[70:80] = b"\xff" * 10  # of what is compressed
        row.write_bytes(content)
    else:
        (tmp_path / ROWS / "key.json").write_text("another")
    classifier = Counting()
    summary = classify_scene(classifier, *scene, out, resume=how, **options)
    assert classifier.asked == summary.patches
    (tmp_path / "whole").mkdir()
    classify_scene(FakeClassifier(), *scene, tmp_path / "whole" / "map.tif", **options)
    assert maps(tmp_path) == maps(tmp_path / "whole")


def test_without_the_option_nothing_is_kept(tmp_path, scene):
    before = everything_in(tmp_path)
    classifier = FakeClassifier(fail_at=30, error=BackendError("device lost"))
    with pytest.raises(BackendError):
        classify_scene(classifier, *scene, tmp_path / "map.tif")
    assert everything_in(tmp_path) == before


def test_two_processes_do_not_make_one_map(tmp_path, scene):
    with finished_rows(tmp_path / "map.tif", {"optical": scene[0]}, []):
        with pytest.raises(RasterError, match="another process is making"):
            classify_scene(FakeClassifier(), *scene, tmp_path / "map.tif", resume="test")


def test_products_are_stacked_before_a_map_can_be_resumed(tmp_path):
    with pytest.raises(InputError, match="cannot go on") as refusal:
        classify_scene(FakeClassifier(), tmp_path, None, tmp_path / "map.tif", resume="test")
    assert "esccs-edge stack" in refusal.value.hint
