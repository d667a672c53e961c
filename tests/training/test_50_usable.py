"""Data that cannot be learned from is refused before any time is spent; oddities are told."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from support.rasters import north_up, write_raster
from support.tiny_data import tiny_document, tiny_index

from esccs_edge.errors import EsccsError
from esccs_edge.training.learning.tasks import learning_task
from esccs_edge.training.options_file import options_from
from esccs_edge.training.run import train

COLUMNS = ("optical", "sar", "label", "group", "split")


@pytest.fixture
def data(tmp_path):
    return tiny_index(tmp_path / "data")


def options_of(index: Path, folder: Path):
    return options_from(tiny_document(index, folder))


def rows_of(index: Path) -> list[dict[str, str]]:
    with open(index, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def rewrite(index: Path, rows: list[dict[str, str]]) -> None:
    with open(index, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def each_optical(index: Path):
    return [index.parent / row["optical"] for row in rows_of(index)]


def float_numbers(index: Path) -> None:
    path = each_optical(index)[5]
    np.save(path, np.load(path).astype(np.float32))


def percent(index: Path) -> None:
    path = each_optical(index)[5]
    np.save(path, (np.load(path) / 100).astype(np.float32))


def linear_sar(index: Path) -> None:
    path = index.parent / rows_of(index)[7]["sar"]
    np.save(path, np.power(10, np.load(path) / 10, dtype=np.float32))


def integer_sar(index: Path) -> None:
    path = index.parent / rows_of(index)[7]["sar"]
    np.save(path, np.round(np.load(path) * 100).astype(np.int16))


def other_size(index: Path) -> None:
    path = each_optical(index)[5]
    np.save(path, np.load(path)[:, :8, :8])


def copies(index: Path) -> None:
    """The files of a training pair once more, under other names, as a test pair elsewhere."""
    rows = rows_of(index)
    taken = next(row for row in rows if row["split"] == "train")
    again = dict(taken, optical="copy.npy", group="elsewhere", split="test", sar="")
    (index.parent / "copy.npy").write_bytes((index.parent / taken["optical"]).read_bytes())
    rewrite(index, [*rows, again])


def as_rasters(index: Path, **profile) -> None:
    rows = rows_of(index)
    for row in rows:
        path = index.parent / row["optical"]
        row["optical"] = write_raster(path.with_suffix(".tif"), np.load(path), **profile).name
        row["sar"] = ""
    rewrite(index, rows)


def coarse(index: Path) -> None:
    as_rasters(index, transform=north_up(5e5, 4.6e6, 60, 60))


def unknown_words(index: Path) -> None:
    as_rasters(index, descriptions=[f"{chr(97 + i)} layer" for i in range(13)])


def alpha_that_is_none(index: Path) -> None:
    """R, G, B and near infrared in 8 bits, whose fourth band writers call alpha."""
    rows = rows_of(index)
    for row in rows:
        path = index.parent / row["optical"]
        picture = (np.load(path)[[3, 2, 1, 7]] / 4000 * 255).clip(0, 255).astype(np.uint8)
        picture[3, :4] = 0
        row["optical"] = write_raster(path.with_suffix(".tif"), picture).name
        row["sar"] = ""
    with rasterio.open(index.parent / rows[0]["optical"]) as written:
        assert written.colorinterp[3] == ColorInterp.alpha
    rewrite(index, rows)


@pytest.mark.parametrize(
    ("spoil", "found", "hint"),
    [
        (float_numbers, r"optical-5.npy.*float values are about", "uint16"),
        (percent, r"optical-5.npy.*float values are about", "white surface"),
        (linear_sar, r"sar-7.npy.*values are about", "linear sigma0"),
        (integer_sar, r"sar-7.npy.*int16", r"dB \* 100"),
        (other_size, r"height x width", "same grid"),
        (copies, r"same optical pixels", "one group"),
        (coarse, r"pixels of 59.9 x 60.* m", "esccs-edge stack"),
        (unknown_words, r"none names a band", "Describe"),
        (alpha_that_is_none, r"calls band 4 alpha", "ALPHA=NO"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_classify_refuses_is_not_learned_from(data, tmp_path, spoil, found, hint):
    spoil(data)
    with pytest.raises(EsccsError, match=found) as caught:
        train(options_of(data, tmp_path / "run"))
    assert re.search(hint, caught.value.hint)
    assert not (tmp_path / "run").exists()


def opened(index: Path, folder: Path):
    options = options_of(index, folder)
    task = learning_task(options.task)
    return task.open(options, task.open_data(options), folder)


def test_reflectance_beside_digital_numbers_is_one_unit(data, tmp_path):
    before = opened(data, tmp_path / "a").modalities["optical"].mean
    for path in each_optical(data)[::2]:
        np.save(path, (np.load(path) * 1e-4).astype(np.float32))
    after = opened(data, tmp_path / "b").modalities["optical"].mean
    assert after == pytest.approx(before, abs=1e-5)


def test_tags_mean_in_training_what_they_mean_to_classify(data, tmp_path):
    without = opened(data, tmp_path / "a").modalities["optical"].mean
    for row in rows_of(data):
        path = data.parent / row["optical"]
        np.save(path, np.load(path) + np.uint16(1000))
    as_rasters(data, tags={"scales": (1.0,) * 13, "offsets": (-1000.0,) * 13})
    assert opened(data, tmp_path / "b").modalities["optical"].mean == pytest.approx(without, 1e-3)


def test_classes_that_cannot_be_learned_or_are_spelled_twice_are_told(data, tmp_path, capsys):
    rows = rows_of(data)
    for number, row in enumerate(rows):
        if row["label"] == "SeaLake" and row["split"] == "train":
            row["label"] = "river" if number % 2 else "Forest"
    rewrite(data, rows)
    opened(data, tmp_path / "run")
    told = capsys.readouterr().err
    assert "no training pair has the class SeaLake" in told
    assert "['River', 'river'] differ in letters alone" in told


def test_values_that_look_wrong_are_counted(data, tmp_path, capsys):
    for path in each_optical(data)[:6]:
        np.save(path, np.load(path) // 40 + 1)
    opened(data, tmp_path / "run")
    assert "RADIOMETRY_SUSPECT" in capsys.readouterr().err


@pytest.mark.parametrize(("mark", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_columns_that_are_not_separated_by_commas_are_named(data, tmp_path, mark, word):
    data.write_text(data.read_text().replace(",", mark))
    with pytest.raises(EsccsError, match="columns") as caught:
        train(options_of(data, tmp_path / "run"))
    assert word in caught.value.hint and "commas" in caught.value.hint
