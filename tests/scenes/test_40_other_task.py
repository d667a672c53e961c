"""A scene of one modality mapped by a task with an answer per pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from support.rasters import write_raster
from support.toy_task import ToyMapping, toy_bundle, toy_manifest

from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.contracts.modality import SampleSpec
from esccs_edge.errors import BackendError, InputError
from esccs_edge.runtime.model import ModelRuntime
from esccs_edge.scenes.blending import Blender
from esccs_edge.scenes.map_reader import read_map
from esccs_edge.scenes.map_writer import NODATA, scores_path_of
from esccs_edge.scenes.mapping import map_scene
from esccs_edge.scenes.tiling import Tiling, positions, window_weights

#: Sums of float32 products in another order than the plain loop's float64.
BLEND_RTOL = 1e-5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    toy = toy_bundle(tmp_path_factory.mktemp("toy") / "bundle")
    backend = CpuBackend(toy, toy.manifest, max_batch=4, precision="fp32")
    made = ModelRuntime(backend, toy.manifest, bundle=toy.identity)
    yield made
    made.close()


def radar_scene(height: int, width: int) -> np.ndarray:
    """Backscatter ``(1, H, W)`` in dB with absent rectangles, one larger than a patch."""
    rng = np.random.default_rng(height)
    pixels = np.clip(rng.normal(-14, 5, (1, height, width)), -34, -1).astype(np.float32)
    pixels[:, 3:7, 2:9] = 0
    pixels[:, 20:52, 8:44] = np.nan
    return pixels


def plain_map(model, pixels: np.ndarray, stride: int) -> np.ndarray:
    """The slow twin of `map_scene`: ``(K, H, W)`` probabilities, NaN without an answer."""
    size, (_, height, width) = model.manifest.sample.height, pixels.shape
    weight = np.outer(window_weights(size), window_weights(size)).astype(float)
    grown = np.full((1, height + size, width + size), np.nan, np.float32)
    grown[:, :height, :width] = pixels
    total = np.zeros(grown.shape[1:])
    layers = np.zeros((len(model.manifest.classes), *grown.shape[1:]))
    for row in positions(height, size, stride):
        for column in positions(width, size, stride):
            where = np.s_[:, row : row + size, column : column + size]
            answer = model.run({"radar": grown[where]})
            if answer.probabilities is not None:
                layers[where] += weight * answer.probabilities
                total[where[1:]] += weight
    total, layers = total[:height, :width], layers[:, :height, :width]
    valid = np.isfinite(pixels[0]) & (pixels[0] != 0)
    with np.errstate(invalid="ignore"):
        return np.where(valid & (total > 0), layers / total, np.nan)


@pytest.mark.parametrize("size", [(70, 53), (16, 16), (9, 40), (40, 5)])
@pytest.mark.parametrize("stride", [None, 5, 16])
def test_a_map_of_answers_per_pixel_equals_the_plain_loop(tmp_path, model, size, stride):
    pixels = radar_scene(*size)
    raster = write_raster(tmp_path / "radar.tif", pixels)
    summary = map_scene(model, {"radar": raster}, tmp_path / "map.tif", stride=stride)
    expected = plain_map(model, pixels, stride or 8)
    answered = np.isfinite(expected[0])
    result = read_map(tmp_path / "map.tif", max(size))
    np.testing.assert_array_equal(result.classes == NODATA, ~answered)
    top = np.sort(expected[:, answered], axis=0)
    clear = top[-1] - top[-2] > 1e-4  # a tie may fall to either class
    winners = expected.argmax(axis=0)[answered]
    np.testing.assert_array_equal(result.classes[answered][clear], winners[clear])
    np.testing.assert_allclose(result.confidence[answered], top[-1], atol=0.0051)
    assert summary.nodata_share == pytest.approx(1 - answered.mean())
    assert summary.mean_confidence == pytest.approx(top[-1].mean(), rel=1e-4)


def test_scores_without_further_layers_hold_the_confidence_only(tmp_path, model):
    raster = write_raster(tmp_path / "radar.tif", radar_scene(40, 40))
    summary = map_scene(model, {"radar": raster}, tmp_path / "map.tif")
    assert summary.mean_gate_optical is None and "mean_gate_optical" not in summary.to_dict()
    assert read_map(tmp_path / "map.tif", 40).layers == {}
    with rasterio.open(scores_path_of(tmp_path / "map.tif")) as scores:
        assert scores.descriptions == ("confidence",)


@pytest.mark.parametrize(
    ("sample", "found"),
    [
        (SampleSpec(16, 24, 10.0), "16 x 24 pixels, expected square"),
        (SampleSpec(16, 16, 10.0, dates=3), "series of 3 dates, expected one of a single date"),
    ],
)
def test_samples_that_no_map_can_tile_are_refused(tmp_path, sample, found):
    class Unused:
        manifest = replace(toy_manifest(), sample=sample)

    raster = write_raster(tmp_path / "radar.tif", radar_scene(40, 40))
    with pytest.raises(InputError, match=found):
        map_scene(Unused(), {"radar": raster}, tmp_path / "map.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["radar.tif"]


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan])
def test_values_that_are_no_shares_are_not_mapped(tmp_path, model, monkeypatch, value):
    def values(self, answer, contract):
        return np.full((len(contract.classes), 16, 16), value, np.float32)

    monkeypatch.setattr(ToyMapping, "map_values", values)
    scene = write_raster(tmp_path / "r.tif", radar_scene(20, 20))
    with pytest.raises(BackendError, match="expected 0 to 1"):
        map_scene(model, {"radar": scene}, tmp_path / "map.tif")
    assert not (tmp_path / "map.tif").exists()


def test_an_unknown_modality_is_refused(tmp_path, model):
    raster = write_raster(tmp_path / "radar.tif", radar_scene(40, 40))
    with pytest.raises(InputError, match="given for optical, expected among radar"):
        map_scene(model, {"optical": raster}, tmp_path / "map.tif")
    with pytest.raises(InputError, match="no radar file was given"):
        map_scene(model, {}, tmp_path / "map.tif")


@pytest.mark.parametrize("shape", [(37, 29, 8, 3), (8, 8, 8, 4), (3, 50, 8, 8), (60, 6, 8, 5)])
def test_blending_patches_equals_a_loop_over_whole_arrays(shape):
    """Patches with a value per pixel, some absent, some with one value for all pixels."""
    height, width, size, stride = shape
    tiling = Tiling.of(height, width, size, stride)
    rng = np.random.default_rng(0)
    weight = np.outer(window_weights(size), window_weights(size)).astype(float)
    total, layers = np.zeros((height, width)), np.zeros((2, height, width))
    blender = Blender(tiling, 2)
    blended = []
    for i, row in enumerate(tiling.rows):
        for k, column in enumerate(tiling.columns):
            if (kind := rng.integers(4)) == 0:
                continue
            values = rng.random((2,) if kind == 1 else (2, size, size), np.float32)
            blender.add(i, k, values)
            where = np.s_[:, row : row + size, column : column + size]
            inside = np.s_[:, : height - row, : width - column]
            part = weight[inside[1:]]
            grown = values[:, None, None] if values.ndim == 1 else values
            layers[where] += part * np.broadcast_to(grown, (2, size, size))[inside]
            total[where[1:]] += part
        blended += [rows for _, rows in blender.finished(i)]
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(np.concatenate(blended, axis=1), layers / total, BLEND_RTOL)
