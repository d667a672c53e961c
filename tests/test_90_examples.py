"""The examples of the documentation run, and each is listed on their page."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from esccs_edge import Classifier, EsccsError, Segmenter, example_pair

FOLDER = Path(__file__).parent.parent / "docs" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
#: What an example may need beyond the runtime.
EXTRA = ("torch", "xarray", "pandas", "pyarrow", "rasterio")


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_runs(path, capsys):
    imported = re.findall(r"^import (\w+)", path.read_text(), re.MULTILINE)
    for package in set(EXTRA) & set(imported):
        pytest.importorskip(package)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


def test_the_loop_answers_in_order_and_refuses_one_pair():
    answered = runpy.run_path(str(FOLDER / "ground_station.py"))["answered"]
    pair = example_pair()
    patches = [(str(i), pair.optical[: 12 if i == 5 else 13], pair.sar) for i in range(40)]
    with Classifier(backend="cpu", queue_size=4) as classifier:
        found = list(answered(classifier, patches))
    assert [name for name, _ in found] == [str(i) for i in range(40)]
    assert [name for name, answer in found if isinstance(answer, EsccsError)] == ["5"]


def test_a_watched_folder_gives_an_answer_or_an_error_for_each_pair_once(tmp_path):
    example = runpy.run_path(str(FOLDER / "watched_folder.py"))
    pair, known = example_pair(), set()
    for name, optical in (("a", pair.optical), ("b", pair.optical[:12])):
        np.save(tmp_path / f"{name}_s2.npy", optical)
        np.save(tmp_path / f"{name}_s1.npy", pair.sar)
    assert list(example["new_pairs"](tmp_path, known)) == ["a", "b"]
    assert list(example["new_pairs"](tmp_path, known)) == []
    with Classifier(backend="cpu", queue_size=1) as classifier:
        wanted = classifier.classify(pair.optical, pair.sar)
        found = [example["judged"](classifier, tmp_path, name) for name in "ab"]
    assert found[0] == {"name": "a", **wanted.to_dict()}
    assert found[1]["code"] == "raster" and "B01" in found[1]["hint"]


def test_labels_are_written_where_their_pixels_lie(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    example = runpy.run_path(str(FOLDER / "label_raster.py"))
    with Segmenter(backend="cpu") as segmenter:
        pair = example_pair(segmenter.manifest.sample.height)
        answer = segmenter.segment(pair.optical, pair.sar)
    transform = rasterio.Affine(10, 0, 703_160, 0, -10, 3_709_500)
    example["write"](tmp_path / "labels.tif", answer, "EPSG:32650", transform)
    with rasterio.open(tmp_path / "labels.tif") as raster:
        assert raster.transform == transform and raster.nodata == 255
        np.testing.assert_array_equal(raster.read(1), answer.label)
        assert raster.tags(1)["8"] == answer.classes[8]


@pytest.mark.parametrize("size", [0, 129])
def test_a_part_of_the_scene_has_at_most_128_pixels(size):
    assert example_pair(128).sar.shape == (2, 128, 128)
    with pytest.raises(ValueError, match="expected 1 to 128"):
        example_pair(size)


def test_examples_are_listed():
    listed = set(re.findall(r"\]\((\w+\.py)\)", (FOLDER / "README.md").read_text()))
    assert listed == {path.name for path in EXAMPLES}
