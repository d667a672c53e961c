"""TensorRT over a task that the package does not know: one modality, a map as output.

The lane runs over the fake GPU; the engines are compiled by the real TensorRT for RTX.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from support.toy_task import CLASSES, toy_bundle, toy_manifest, toy_onnx, toy_pixels
from support.trt_machine import Machine, assert_same, cpu_answer

from esccs_edge.backends.trt.build import BuildOptions, build_plan
from esccs_edge.backends.trt.layers import EngineListing, layers_of_table, list_engine
from esccs_edge.backends.trt.library import load_flavor
from esccs_edge.contracts.values import Flag, Sample
from esccs_edge.cuda.probe import probe_driver
from esccs_edge.runtime.model import ModelRuntime

compiler = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None or not probe_driver().problem,
    reason="needs TensorRT for RTX (pip install esccs-edge[rtx]) and a host without a GPU",
)


def awkward_samples(manifest, count):
    """Whole, with NaN and nodata, or absent, in turn."""
    images = [toy_pixels(manifest, seed) for seed in range(count)]
    for image in images[1::3]:
        image[0, 2, 3], image[0, :2] = np.nan, 0
    return [Sample({"radar": None if i % 3 == 2 else image}) for i, image in enumerate(images)]


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_lane_answers_maps_of_one_modality_as_the_cpu_backend(
    monkeypatch, tmp_path, seed, integrated
):
    machine = Machine(monkeypatch, tmp_path, toy_bundle, seed=seed, integrated=integrated)
    backend = machine.open(graph_batches=(2,))
    lane = backend.open_lane()
    for count in (4, 2, 1, 2, 2):  # the last two by a graph
        samples = awkward_samples(machine.manifest, count)
        found = lane.answer(samples)
        assert found.outputs["class_scores"].shape == (count, len(CLASSES), 16, 16)
        assert_same(found, cpu_answer(tmp_path / "bundle", samples))
    assert len(lane.contexts.graphs) == 1
    backend.close()
    assert machine.driver.released


def test_runtime_maps_through_tensorrt(monkeypatch, tmp_path):
    machine = Machine(monkeypatch, tmp_path, toy_bundle)
    model = ModelRuntime(machine.open(), machine.manifest, bundle=machine.bundle.identity)
    answer = model.submit({"radar": toy_pixels(machine.manifest)}).result(20)
    assert answer.labels.shape == (16, 16)
    np.testing.assert_allclose(answer.probabilities.sum(axis=0), 1, atol=1e-5)
    assert Flag.ALL_NODATA in model.run({}).flags
    model.close()
    assert machine.driver.released


def build(content, manifest):
    return build_plan(
        load_flavor("rtx"), content, manifest, BuildOptions(manifest.batch, "portable")
    )


@compiler
def test_float_network_compiles_to_layers_of_its_only_modality(tmp_path):
    listing = list_engine(toy_bundle(tmp_path / "toy"))
    assert {layer.part for layer in listing.layers} <= {"radar", ""}
    (last,) = [layer for layer in listing.layers if "class_scores" in layer.outputs]
    assert last.part == "radar" and set(last.reads) == {"fp32"}
    text = listing.to_text(toy_manifest())
    assert f"class_scores written by {last.name}" in text and "both" not in text


@compiler
def test_quantized_network_compiles_to_an_engine_that_reads_int8():
    pytest.importorskip("onnxruntime", reason="inserting Q/DQ needs onnxruntime")
    from esccs_edge.calibration.recipe import insert_qdq, tensorrt_recipe

    manifest = toy_manifest()
    model = onnx.load_from_string(toy_onnx(manifest))
    recipe = tensorrt_recipe(model)
    quantized = insert_qdq(model, recipe, dict.fromkeys(recipe.activations, 4.0))
    built = build(quantized.SerializeToString(), manifest)
    layers = layers_of_table(built.layers, manifest.modalities)
    assert len(built.plan) > 10_000
    reading = [layer for layer in layers if "int8" in layer.reads]
    assert reading and all(layer.part == "radar" for layer in reading)


def test_parts_of_three_modalities_are_named_by_how_many_join():
    def tensors(*names):
        return "".join(f"{{ Name: {n}, Dimensions: [1], Format/Datatype: Float }}" for n in names)

    def row(name, inputs, output):
        return (
            f"Name: {name}, LayerType: kgen, Inputs: [{tensors(*inputs)}], Constants: [], "
            f"Outputs: [{tensors(output)}], TacticName: t, StreamId: 0\n"
        )

    table = "Layers:\n" + row("one", "a", "x") + row("two", "xb", "y") + row("three", "yc", "z")
    layers = layers_of_table(table, "abc")
    assert [layer.part for layer in layers] == ["a", "both", "several"]
    text = EngineListing("rtx", "1.7", "", layers).to_text(toy_manifest())
    assert "several" in text and "class_scores written by no layer" in text
