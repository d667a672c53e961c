"""What a newcomer hands in: answered right, refused in words, or flagged.

Each row is one thing that goes wrong with a real pair of the package, through the Python interface
and the command line. "Right" is the answer to the pair as it is; nothing else may come unflagged.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.cli_parts import run, run_json
from support.rasters import write_raster

from esccs_edge import Classifier, example_pair
from esccs_edge.cli.map_scene import DOUBTS
from esccs_edge.contracts.values import Flag
from esccs_edge.errors import EsccsError, InputError

RIGHT, FLAGGED = "right", "flagged"
PAIR = example_pair()
DN, DB = PAIR.clear, PAIR.sar
REFLECTANCE = (DN / 1e4).astype(np.float32)
SPACED = np.zeros((*DN.shape[:2], 2 * DN.shape[2]), DN.dtype)
SPACED[:, :, ::2] = DN
READ_ONLY = DN.copy()
READ_ONLY.flags.writeable = False
BAND = np.arange(13)[:, None, None]
HALF = np.arange(64) < 32
NOISE = np.random.default_rng(0)


def picture(pixels):
    """Return what a viewer saves: 8 bits, stretched."""
    low, high = np.percentile(pixels, (2, 98))
    return ((pixels - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)


#: (what, optical, SAR, what comes of it: right, flagged, or words of the refusal).
ARRAYS = [
    # memory
    ("lists of bands", list(DN), list(DB), RIGHT),
    ("nested lists", DN.tolist(), DB.tolist(), RIGHT),
    ("read-only", READ_ONLY, DB, RIGHT),
    ("every other column", SPACED[:, :, ::2], DB, RIGHT),
    ("columns first", np.asfortranarray(DN), np.asfortranarray(DB), RIGHT),
    ("bytes of the other order", DN.astype(">u2"), DB.astype(">f4"), RIGHT),
    ("reversed twice", DN[:, ::-1][:, ::-1], DB, RIGHT),
    ("wide integers", DN.astype(np.int64), DB.astype(np.float64), RIGHT),
    ("float64 reflectance", DN / 1e4, DB, RIGHT),
    ("extended floats", REFLECTANCE.astype(np.longdouble), DB, RIGHT),
    # things that are no pixels
    ("paths", "s2.tif", "s1.tif", "read_patch"),
    ("a path", Path("s2.tif"), None, "read_patch"),
    ("a dictionary", {"B02": DN[1]}, DB, "expected an array"),
    ("a number", 3, DB, "shape ()"),
    ("nothing", [], [], "shape (0,)"),
    ("text", DN.astype(str), DB, "dtype <U"),
    ("truth values", DN > 1000, DB, "dtype bool"),
    ("complex numbers", DN, DB.astype(complex), "dtype complex"),
    ("objects", DN.astype(object), DB, "dtype object"),
    # axes and bands
    ("exchanged", DB, DN, "swapped"),
    ("channels last", DN.transpose(1, 2, 0), DB, "transpose(2, 0, 1)"),
    ("SAR channels last", DN, DB.transpose(1, 2, 0), "transpose(2, 0, 1)"),
    ("a batch of one", DN[None], DB[None], "one patch"),
    ("one polarization", DN, DB[:1], "VV, VH"),
    ("one polarization, two axes", DN, DB[0], "one patch"),
    ("three channels of SAR", DN, np.concatenate([DB, DB[:1] - DB[1:]]), "VV, VH"),
    ("Level-2A", np.delete(DN, 10, 0), DB, "Level-2A"),
    ("colors", DN[1:4], DB, "colors of a picture"),
    ("colors and near infrared", DN[[3, 2, 1, 7]], DB, "colors of a picture"),
    ("ten bands", DN[[1, 2, 3, 4, 5, 6, 7, 8, 11, 12]], DB, "B01, B02"),
    ("SAR as optical", np.tile(DB[:1], (13, 1, 1)), DB, "reflectance"),
    ("optical as SAR", DN, REFLECTANCE[:2], "linear sigma0"),
    ("a band in another's place", np.where(BAND == 8, DN[7], DN), DB, FLAGGED),
    ("a band made up", np.where(BAND == 3, 1000, DN).astype(np.uint16), DB, FLAGGED),
    ("one band for all", np.repeat(DN[3:4], 13, 0), DB, FLAGGED),
    ("VV twice", DN, DB[[0, 0]], FLAGGED),
    ("VV and the ratio", DN, np.stack([DB[0], DB[0] - DB[1]]), FLAGGED),
    # sizes
    ("one pixel short", DN[:, :63, :63], DB[:, :63, :63], "64 x 64"),
    ("one pixel", DN[:, :1, :1], DB[:, :1, :1], "64 x 64"),
    ("SAR of half the size", DN, DB[:, ::2, ::2], "64 x 64"),
    ("optical of twice the size", DN.repeat(2, 1).repeat(2, 2), DB, "classify_scene"),
    ("optical of half the size", DN[:, ::2, ::2], DB, "fill smaller ones up with nodata"),
    # values
    ("DN as floats", DN.astype(np.float32), DB, "digital numbers"),
    ("percent", REFLECTANCE * 100, DB, "percent"),
    ("0..255 as floats", picture(DN).astype(np.float32), DB, "0..1"),
    ("a picture", picture(DN), DB, FLAGGED),
    ("DN / 10", DN // 10, DB, FLAGGED),
    ("DN + 1000", DN + np.uint16(1000), DB, FLAGGED),
    ("negative DN", DN.astype(np.int16) - 3000, DB, FLAGGED),
    ("full scale", np.full_like(DN, 65535), DB, FLAGGED),
    ("huge numbers", DN.astype(np.uint64) + 2**40, DB, "16-bit"),
    ("each band from 0 to 1",
     (DN - DN.min((1, 2), keepdims=True)) / np.ptp(DN, (1, 2), keepdims=True), DB, FLAGGED),
    ("noise as DN", NOISE.integers(0, 10_000, DN.shape).astype(np.uint16), DB, FLAGGED),
    ("noise", NOISE.random(DN.shape), DB, FLAGGED),
    ("linear SAR", DN, 10 ** (DB / 10), "sar_unit='linear'"),
    ("amplitude", DN, 10 ** (DB / 20), "linear"),
    ("dB * 100", DN, DB * 100, "scaled integers"),
    ("dB as whole numbers", DN, DB.astype(np.int8), "float32"),
    ("dB without the sign", DN, -DB, "expected dB"),
    ("a picture of SAR", DN, picture(DB), "float32"),
    ("SAR of one value", DN, np.full_like(DB, -12), FLAGGED),
    # absent pixels
    ("half of it black", np.where(HALF, 0, DN).astype(np.uint16), DB, FLAGGED),
    ("a third is NaN", np.where(NOISE.random((64, 64)) < 0.3, np.nan, REFLECTANCE), DB, FLAGGED),
    ("infinite in places", np.where(HALF & (BAND == 2), np.inf, REFLECTANCE), DB, FLAGGED),
    ("a band of 0", np.where(BAND == 3, 0, DN).astype(np.uint16), DB, FLAGGED),
    ("a band of NaN", np.where(BAND == 3, np.nan, REFLECTANCE), DB, FLAGGED),
    ("reflectance cut to integers", REFLECTANCE.astype(np.int32), DB, FLAGGED),
    ("SAR of NaN", DN, np.full_like(DB, np.nan), FLAGGED),
]  # fmt: skip


@pytest.fixture(scope="module")
def classifier():
    with Classifier() as opened:
        yield opened


@pytest.mark.fault(7, 9, 10, 11, 14, 18, 22)
@pytest.mark.parametrize(("optical", "sar", "expected"), [row[1:] for row in ARRAYS],
                         ids=[row[0] for row in ARRAYS])  # fmt: skip
def test_arrays(classifier, optical, sar, expected):
    right = classifier.classify(DN, DB)
    assert Flag.RADIOMETRY_SUSPECT not in right.flags
    try:
        found = classifier.classify(optical, sar)
    except InputError as error:
        assert expected in str(error), str(error)
        return
    told = found.flags - right.flags
    if expected == RIGHT:
        assert found.label == right.label and not told
        assert found.confidence == pytest.approx(right.confidence, abs=2e-3)
    else:
        assert expected == FLAGGED and told - {Flag.UNFAMILIAR, Flag.CLIPPED}, found.flags


#: (what, rasters of a scene, flags that say so).
SCENES = [
    ("as it is", DN, DB, set()),
    ("DN + 1000", DN + np.uint16(1000), DB, {"RADIOMETRY_SUSPECT"}),
    ("EuroSAT's order", DN[[0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 8]], DB, {"RADIOMETRY_SUSPECT"}),
    ("a picture", picture(DN), None, {"RADIOMETRY_SUSPECT"}),
    ("VH, VV", None, DB[::-1], {"RADIOMETRY_SUSPECT"}),
    ("noise", NOISE.integers(0, 10_000, DN.shape).astype(np.uint16), None,
     {"RADIOMETRY_SUSPECT", "UNFAMILIAR"}),
]  # fmt: skip


@pytest.mark.fault(8, 17, 20)
@pytest.mark.parametrize(("optical", "sar", "flags"), [row[1:] for row in SCENES],
                         ids=[row[0] for row in SCENES])  # fmt: skip
def test_a_map_says_what_its_patches_say(tmp_path, optical, sar, flags):
    paths = []
    for name, pixels in (("o.tif", optical), ("s.tif", sar)):
        if pixels is not None:
            write_raster(tmp_path / name, np.tile(pixels, (1, 2, 2)))
        paths.append("-" if pixels is None else tmp_path / name)
    document = run_json("map", *paths, tmp_path / "m.tif", "--stride", 64)
    doubts = {flag: n for flag, n in document["flagged_patches"].items() if flag in DOUBTS}
    assert {flag for flag in flags if doubts.get(flag) == 4} == flags
    item = json.loads((tmp_path / "m.stac.json").read_text(encoding="utf-8"))
    assert item["properties"]["esccs:flagged_patches"] == document["flagged_patches"]
    text = run("map", *paths, tmp_path / "m.tif", "--stride", 64, "--overwrite").stdout
    for flag in DOUBTS:
        assert (f"{flag} in {doubts.get(flag)} of 4 patches" in text) == (flag in doubts)


#: (call on a classifier, words of the refusal).
CALLS = [
    (lambda c, _: c.classify_batch(5, 5), "opticals is a int"),
    (lambda c, _: c.classify_batch(iter([DN]), [DB]), "expected a sequence"),
    (lambda c, _: c.classify_batch(DN, DB), "13 optical and 2 SAR"),
    (lambda c, _: list(c.stream(None)), "expected an iterable"),
    (lambda c, _: c.submit(DN, DB, deadline_ms="5"), "deadline_ms is '5'"),
    (lambda c, at: c.classify_scene(DN, DB, at / "m.tif"), "optical is of type ndarray"),
    (lambda c, at: c.classify_scene(None, None, at / "m.tif"), "neither"),
    (lambda c, at: c.classify_scene(at / "s2.tif", None, None), "out_path is of type NoneType"),
    (lambda c, at: c.classify_scene(at / "s2.tif", None, at / "m.png"), "ending in .tif"),
    (lambda c, at: c.classify_scene(at / "s2.tif", None, at), "ending in .tif"),
    *((lambda c, at, stride=stride: c.classify_scene(at / "s2.tif", None, at / "m.tif",
       stride=stride), "stride is") for stride in ("8", 0, 2.5, True, 65, -1)),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), CALLS, ids=[words for _, words in CALLS])
def test_calls(classifier, tmp_path, call, words):
    write_raster(tmp_path / "s2.tif", DN)
    with pytest.raises(EsccsError, match=words):
        call(classifier, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["s2.tif"]


def test_what_is_no_pair_is_refused_in_its_place(classifier):
    pairs = [(DN, DB), DN, (DN, DB, 1), None, (DB, DN), (DN, None)]
    found = list(classifier.stream(pairs))
    assert [isinstance(answer, EsccsError) for answer in found] == [False, *[True] * 4, False]
    assert all("expected (optical, sar)" in str(answer) for answer in found[1:4])


@pytest.mark.parametrize(
    "arguments",
    [{name: value} for name in ("max_batch", "lanes", "queue_size", "threads")
     for value in ("2", 2.5, 0, -1, True)]
    + [{"max_batch": None}, {"max_batch": 10**7}, {"max_delay_ms": "2"}, {"max_delay_ms": None},
       {"max_delay_ms": -1}, {"max_delay_ms": float("nan")}, {"dn_offset": "-1000"},
       {"dn_offset": float("nan")}, {"sar_unit": "DB"}, {"precision": "int9"}, {"bundle": 5},
       {"backend": "cuda"}, {"digest": 5}, {"digest": "abc"}, {"device": "cpu"}, {"flavor": "x"}],
    ids=str,
)  # fmt: skip
def test_arguments(arguments):
    (name,) = arguments
    with pytest.raises(InputError, match=name):
        Classifier(**arguments)
