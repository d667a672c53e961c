"""The model in the package, as a user meets it: real files, public API, command line.

Numbers are measured here, through the INT8 model and the CPU backend; the bounds are the promises
of the README. Its SAR and clouds are simulated wherever EuroSAT is the source.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from esccs_edge import Bundle, Classifier
from esccs_edge.backends.cpu.openvino import ov
from esccs_edge.cli import main
from esccs_edge.contracts.values import Flag
from esccs_edge.pixels.synthetic import random_samples
from esccs_edge.rasters.band_files import read_band_files
from esccs_edge.rasters.reader import read_patch

MAX_BYTES = 3_300_000  # a quarter of it the float16 graph, for GPUs
PLACE = "ROIs1970_fall_139_p839.tif"


@pytest.fixture(scope="module")
def classifier():
    with Classifier(backend="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def triplet(sample_data):
    folder = sample_data / "sen12ms-cr" / "triplet"
    return {kind: folder / kind / PLACE for kind in ("s2_cloudfree", "s2_cloudy", "s1")}


def run_json(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in (*arguments, "--json")])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def tiles(image, size):
    return [
        image[:, row : row + size, column : column + size]
        for row in range(0, image.shape[1], size)
        for column in range(0, image.shape[2], size)
    ]


@pytest.mark.skipif(
    "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this CPU has no bfloat16 to be kept from",
)
@pytest.mark.parametrize("batch", [2, 5, 16, 32])
def test_the_batch_around_a_pair_does_not_change_its_answer(classifier, batch):
    pairs = random_samples(classifier.manifest, 32)
    opticals, sars = (
        [pair.pixels["optical"] for pair in pairs],
        [pair.pixels["sar"] for pair in pairs],
    )
    alone = [classifier.classify(**pair.pixels) for pair in pairs]
    for first in range(0, 32, batch):
        some = slice(first, first + batch)
        together = classifier.classify_batch(opticals[some], sars[some])
        for one, same in zip(alone[some], together, strict=True):
            assert one.label == same.label
            assert one.gate.optical == pytest.approx(same.gate.optical, abs=1e-5)
            assert list(one.probabilities.values()) == pytest.approx(
                list(same.probabilities.values()), abs=1e-5
            )


def test_the_bundle_is_small_whole_int8_and_says_what_was_simulated():
    bundle = Bundle.open()
    assert "student.int8.onnx" == bundle.manifest.model in bundle.verify()
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) <= MAX_BYTES
    assert {"sar", "clouds"} <= bundle.manifest.provenance["simulated"].keys()
    assert len(bundle.manifest.classes) == 10
    assert (
        len(bundle.manifest.modalities["optical"].channels) == 13
        and bundle.manifest.sample.height == 64
    )


@pytest.mark.parametrize("name", ["default", "crop-series"])
def test_it_answers_like_the_network_that_was_trained(name):
    assert run_json("verify", name)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("default", "fp32"), ("default", "int8"),
     *(("crop-series", precision) for precision in ("fp32", "fp16", "int8"))],
)  # fmt: skip
def test_it_compiles_to_an_engine(tmp_path, name, precision):
    pytest.importorskip("tensorrt_rtx_bindings")
    report = run_json("build", name, "--flavor", "rtx", "--precision", precision,
                      "--out", tmp_path)  # fmt: skip
    assert (tmp_path / report["path"]).stat().st_size == report["bytes"] > 0


@pytest.mark.data
def test_held_out_cells_are_named_right_and_most_still_under_clouds(sample_data):
    """On optical alone: EuroSAT has no SAR, and simulated SAR proves little."""
    source = f"eurosat:{sample_data / 'eurosat-ms'}"
    clear = run_json("evaluate", "default", source)
    assert clear["simulated"] == [] and clear["overall"]["n"] > 190
    assert clear["overall"]["balanced_accuracy"] >= 0.85
    cloudy = run_json("evaluate", "default", source, "--clouds", 1)["by_cloud"]
    assert cloudy["60-80"]["balanced_accuracy"] >= 0.65


@pytest.mark.data
def test_real_tiles_are_judged_and_the_gate_says_from_what(triplet, classifier):
    manifest = classifier.manifest
    cloudy = tiles(
        read_patch(triplet["s2_cloudy"], manifest.modalities["optical"]), manifest.sample.height
    )
    clear = tiles(
        read_patch(triplet["s2_cloudfree"], manifest.modalities["optical"]), manifest.sample.height
    )
    sar = tiles(read_patch(triplet["s1"], manifest.modalities["sar"]), manifest.sample.height)
    asked = {
        "clear": classifier.classify_batch(clear, None),
        "cloudy": classifier.classify_batch(cloudy, None),
        "sar": classifier.classify_batch(None, sar),
        "both": classifier.classify_batch(cloudy, sar),
        "clear + sar": classifier.classify_batch(clear, sar),
    }
    assert all(len(answers) == 16 for answers in asked.values())
    for answer in [*asked["clear"], *asked["cloudy"]]:
        assert answer.gate.sar == 0 and answer.gate.optical == pytest.approx(1, abs=1e-6)
    for answer in asked["sar"]:
        assert answer.gate.optical == 0 and answer.gate.sar == pytest.approx(1, abs=1e-6)
    for answer in asked["both"]:
        assert 0 < answer.gate.optical < 1
        assert answer.gate.optical + answer.gate.sar == pytest.approx(1, abs=1e-6)
        assert Flag.MODALITY_MISSING not in answer.flags
    under_clouds, without = (
        np.mean([answer.gate.optical for answer in asked[name]]) for name in ("both", "clear + sar")
    )
    assert under_clouds < without


@pytest.mark.data
def test_a_tile_on_disk_gets_the_same_answer_from_the_command_line(triplet, classifier, tmp_path):
    size = classifier.manifest.sample.height
    patches = {}
    for kind in ("s2_cloudy", "s1"):
        with rasterio.open(triplet[kind]) as source:
            window = rasterio.windows.Window(64, 64, size, size)
            patches[kind] = source.read(window=window)
            profile = {key: source.profile[key] for key in ("count", "dtype", "crs", "transform")}
        cut = {"driver": "GTiff", "width": size, "height": size, **profile}
        with rasterio.open(tmp_path / f"{kind}.tif", "w", **cut) as target:
            target.write(patches[kind])
    found = run_json(
        "classify", tmp_path / "s2_cloudy.tif", tmp_path / "s1.tif", "--backend", "cpu"
    )
    assert found == classifier.classify(patches["s2_cloudy"], patches["s1"]).to_dict()
    assert found.keys() == {"label", "confidence", "probabilities", "gate", "flags"}
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    alone = run_json("classify", "-", tmp_path / "s1.tif", "--backend", "cpu")
    assert alone["gate"]["optical"] == 0 and alone["flags"] == ["MODALITY_MISSING"]


@pytest.mark.data
def test_untouched_scenes_become_maps(triplet, sample_data, tmp_path):
    chip = sample_data / "sen1floods11"
    scenes = {
        "triplet": (triplet["s2_cloudy"], triplet["s1"]),
        "flood": (next((chip / "S2").glob("*.tif")), next((chip / "S1").glob("*.tif"))),
    }
    for name, (optical, sar) in scenes.items():
        out = tmp_path / f"{name}.tif"
        run_json("map", optical, sar, out, "--quicklook", tmp_path / f"{name}.png")
        with rasterio.open(out) as found, rasterio.open(optical) as source:
            assert found.shape == source.shape and found.transform == source.transform
            assert set(np.unique(found.read(1))) <= {*range(10), 255}


def stacked(bands, spec, like, target, **fill):
    """Write one file per band as one GeoTIFF; returns its pixels."""
    pixels = read_band_files(bands, spec, **fill)
    with rasterio.open(like) as source:
        place = {"crs": source.crs, "transform": source.transform}
    shape = dict(zip(("count", "height", "width"), pixels.shape, strict=True))
    with rasterio.open(target, "w", "GTiff", dtype=pixels.dtype, **shape, **place) as raster:
        raster.write(pixels)
        raster.descriptions = spec.channels
    return pixels


@pytest.mark.data
def test_bigearthnet_pairs_are_judged_and_mapped(bigearthnet, classifier, tmp_path):
    """L2A bands stand in for L1C and B10 is filled, so only that there is a class is judged."""
    manifest = classifier.manifest
    for bands in bigearthnet.values():
        optical = stacked(bands["S2"], manifest.modalities["optical"], bands["S2"]["B02"],
                          tmp_path / "s2.tif", fill={"B10": 15})  # fmt: skip
        sar = stacked(
            bands["S1"], manifest.modalities["sar"], bands["S1"]["VV"], tmp_path / "s1.tif"
        )
        answer = classifier.classify(optical[:, :64, :64], sar[:, :64, :64])
        assert answer.label in manifest.classes and 0 < answer.gate.sar < 1
        report = run_json("map", tmp_path / "s2.tif", tmp_path / "s1.tif",
                          tmp_path / "map.tif", "--overwrite", "--backend", "cpu")  # fmt: skip
        assert (report["height"], report["width"]) == (120, 120) and report["nodata_share"] == 0
