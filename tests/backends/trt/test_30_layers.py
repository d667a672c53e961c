"""The listing of an engine's layers: from the real TensorRT for RTX compiler, which needs no GPU,
and from the words of the engine inspector as the libraries spell them.
"""

from __future__ import annotations

import json
import re
import threading
import types
from importlib.util import find_spec

import pytest
from click.testing import CliRunner
from support.tiny import tiny_bundle, tiny_manifest, tiny_onnx
from support.trt_layer_list import LAYERS
from support.trt_machine import Machine

from esccs_edge import Bundle
from esccs_edge.backends.trt import layers as trt_layers
from esccs_edge.backends.trt.build import BuildOptions, build_plan
from esccs_edge.backends.trt.layers import layers_of_inspector, layers_of_table, list_engine
from esccs_edge.backends.trt.library import LogLines, load_flavor
from esccs_edge.cli import main
from esccs_edge.cuda.probe import DriverInfo, probe_driver
from esccs_edge.errors import BackendError, ClosedError, InputError, MissingDependencyError

rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT for RTX is not installed (x86-64 only): pip install esccs-edge[rtx]",
)
no_gpu = pytest.mark.skipif(not probe_driver().problem, reason="this host has a GPU")


MODALITIES = ("optical", "sar")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    machine = Machine(monkeypatch, tmp_path)
    machine.flavor.trt.layers = LAYERS
    return machine


@rtx
@no_gpu
def test_shipped_model_is_one_engine_with_both_branches_in_int8_and_the_gate():
    listing = list_engine(Bundle.open(None))
    layers = listing.layers
    assert listing.flavor == "rtx" and listing.gpu == ""
    assert {layer.part for layer in layers} == {"optical", "sar", "both", ""}
    # The file has 23 Conv nodes: those of each encoder, and one of each distance.
    for modality, count in zip(MODALITIES, (13, 10), strict=True):
        convolutions = [x for x in layers if x.part == modality and x.kind == "correlation"]
        assert len(convolutions) == count
        assert all(layer.reads == ("int8",) for layer in convolutions)
    (gate,) = [layer for layer in layers if "gate" in layer.outputs]
    (head,) = [layer for layer in layers if "logits" in layer.outputs]
    assert gate.part == head.part == "both"
    assert "int8" not in gate.reads + head.reads  # they stay float, as the calibration says
    assert all(layer.part == "" for layer in layers if not layer.outputs)
    assert {layer.stream for layer in layers} == {0, 1}


@rtx
@no_gpu
def test_streams_of_the_engine_follow_the_option():
    bundle, library = Bundle.open(None), load_flavor("rtx")
    options = BuildOptions(bundle.manifest.batch, "8.6", max_aux_streams=0)
    built = build_plan(library, bundle.read("student.onnx"), bundle.manifest, options)
    layers = layers_of_table(built.layers, bundle.manifest.modalities)
    assert {layer.stream for layer in layers} == {0}
    assert {n for layer in layers for n in layer.reads + layer.writes} == {"fp32"}


@rtx
@no_gpu
def test_inspectors_json_and_the_builders_table_give_equal_layers():
    manifest = tiny_manifest()
    options = BuildOptions(manifest.batch, "portable")
    table = build_plan(load_flavor("rtx"), tiny_onnx(manifest), manifest, options).layers
    rows = [
        {"Name": re.match("Name: (.*?),", line)[1], "LayerType": re.search("Type: (.*?),", line)[1],
         "StreamId": int(re.search(r"StreamId: (\d+)", line)[1]),
         "Inputs": _as_json(line, "Inputs"), "Outputs": _as_json(line, "Outputs")}
        for line in table.split("\n\n")[0].splitlines()[1:]
    ]  # fmt: skip
    assert layers_of_inspector(rows, MODALITIES) == layers_of_table(table, MODALITIES)


def _as_json(line, side):
    content = line.split(f"{side}: [", 1)[1].split("], TacticName" if side == "Outputs" else
                                                   "], Constants", 1)[0]  # fmt: skip
    found = [re.split(": |, ", part) for part in content.split("{ ")[1:]]
    return [{"Name": words[1], "Datatype": words[words.index("Datatype") + 1]} for words in found]


def test_table_belongs_to_the_thread_that_built_and_is_given_once():
    lines, severity = LogLines(), types.SimpleNamespace(name="VERBOSE")
    lines.log(severity, "Layers:\nmine")
    other = threading.Thread(target=lines.log, args=(severity, "Layers:\nof another build"))
    other.start()
    other.join()
    lines.log(severity, "Total Activation Memory: 1 bytes")
    assert (lines.take_layers(), lines.take_layers()) == ("Layers:\nmine", "")


def test_parts_are_found_by_following_the_tensors():
    found = {layer.name: layer.part for layer in layers_of_inspector(LAYERS, MODALITIES)}
    assert found == {"start": "", "conv_o": "optical", "conv_s": "sar", "gate": "both",
                     "head": "both"}  # fmt: skip


@pytest.mark.parametrize(
    "words, number",
    [
        ("Half", "fp16"),
        ("Row major linear FP16 format", "fp16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Channel major FP32 format where channel % 4 == 0", "fp32"),
        ("BFloat16", "bf16"),
        ("Something new", "Something new"),
    ],
)
def test_number_types_of_tensorrt_10_stand_in_a_sentence(words, number):
    layer = {"Name": "conv", "Inputs": [{"Name": "optical", "Format/Datatype": words}],
             "Outputs": [{"Name": "x", "Format/Datatype": words}]}  # fmt: skip
    (found,) = layers_of_inspector([layer], MODALITIES)
    assert found.reads == found.writes == (number,) and found.stream is None


def test_engine_without_details_is_not_listed_as_if_it_had_no_tensors():
    with pytest.raises(BackendError, match="reports nothing"):
        layers_of_inspector([{"Name": "conv"}], MODALITIES)


@pytest.mark.parametrize("table", ["", "Layers:\n\n", "Layers:\nName: a, Kind: conv\n"])
def test_table_of_another_form_is_refused(table):
    with pytest.raises(BackendError, match="known form"):
        layers_of_table(table, MODALITIES)


def test_list_engine_inspects_the_engine_of_the_runtime_where_there_is_a_gpu(machine, monkeypatch):
    monkeypatch.setattr(trt_layers, "probe_driver", lambda: DriverInfo("13.0", (), ""))
    monkeypatch.setenv("ESCCS_CACHE_DIR", str(machine.folder / "engines"))
    listing = list_engine(tiny_bundle(machine.folder / "bundle"))
    assert (listing.flavor, listing.gpu) == ("tensorrt", "Fake GPU")
    assert [layer.reads for layer in listing.layers][1:3] == [("int8",), ("fp16",)]
    assert machine.driver.released


def test_closed_backend_lists_nothing(machine):
    backend = machine.open()
    assert [layer["Name"] for layer in backend.layers()][-1] == "head"
    backend.close()
    with pytest.raises(ClosedError):
        backend.layers()


@no_gpu
def test_without_gpu_and_compiler_the_error_names_the_package(monkeypatch, tmp_path):
    def absent(name):
        raise MissingDependencyError(f"{name} is not installed", hint="Run: pip install it")

    monkeypatch.setattr(trt_layers, "load_flavor", absent)
    bundle = tiny_bundle(tmp_path / "bundle")
    with pytest.raises(MissingDependencyError, match="pip install"):
        list_engine(bundle)
    done = CliRunner().invoke(main, ["inspect", str(bundle.folder), "--layers"])
    assert done.exit_code == 1 and "rtx is not installed" in done.stderr


@rtx
@no_gpu
def test_command_lists_the_engine_for_people_and_programs(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    text = CliRunner().invoke(main, ["inspect", str(bundle.folder), "--layers"]).stdout
    assert "loaded on no GPU" in text and re.search(r"optical +1 layers on stream 0", text)
    command = ["inspect", str(bundle.folder), "--json"]
    assert json.loads(CliRunner().invoke(main, command).stdout)["engine"] is None
    document = json.loads(CliRunner().invoke(main, [*command, "--layers"]).stdout)
    assert [x["part"] for x in document["engine"]["layers"]].count("both") == 2


def test_layers_are_timed_on_the_gpu(machine, monkeypatch):
    """The fake's first run is slower; its layers take 0, 250, 500 ... microseconds after that."""
    monkeypatch.setattr(trt_layers, "probe_driver", lambda: DriverInfo("13.0", (), ""))
    monkeypatch.setenv("ESCCS_CACHE_DIR", str(machine.folder / "engines"))
    bundle = tiny_bundle(machine.folder / "bundle")
    listing = list_engine(bundle, timed_batch=4)
    machine.driver.released = False  # the command opens the same one
    found = {layer.name: layer.milliseconds for layer in listing.layers}
    assert found == {"start": 0.0, "conv_o": 0.25, "conv_s": 0.5, "gate": 0.75, "head": 1.0}
    assert listing.to_dict()["layers"][1]["milliseconds"] == 0.25
    done = CliRunner().invoke(main, ["inspect", str(bundle.folder), "--layers", "--time", "4"])
    assert done.exit_code == 0, done.stderr
    assert "layer, microseconds for 4" in done.stdout and "conv_s, 500.0 us" in done.stdout
    both = "both        2 layers on stream 0, reading fp32 in 2, fp16 in 1, 1750.0 us"
    assert both in done.stdout


def test_layers_cannot_be_timed_without_a_gpu_or_past_the_profile(monkeypatch, tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    with pytest.raises(InputError, match="batch to time is 9, expected 1..8"):
        list_engine(bundle, timed_batch=9)
    monkeypatch.setattr(trt_layers, "probe_driver", lambda: DriverInfo("", (), "no driver"))
    done = CliRunner().invoke(main, ["inspect", str(bundle.folder), "--layers", "--time"])
    assert done.exit_code == 1 and "layers are timed on a GPU, but no driver" in done.stderr
    done = CliRunner().invoke(main, ["inspect", str(bundle.folder), "--time", "2"])
    assert done.exit_code == 2 and "give both" in done.stderr
