"""The command line from the outside: help, JSON shapes, exit codes, refusals that write nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from support.cli_parts import refused, run, run_json
from support.rasters import write_raster
from support.tiny import CLASSES, raw_pair

from esccs_edge.cli import _COMMANDS
from esccs_edge.contracts.values import Flag

HEAVY = ("openvino", "rasterio", "torch", "onnx", "cv2", "matplotlib", "tensorrt_rtx", "lightning")


@pytest.fixture
def pair(bundle, tmp_path: Path):
    """Optical and SAR of one patch as .npy files."""
    optical, sar = raw_pair(bundle.manifest, seed=3)
    np.save(tmp_path / "optical.npy", optical)
    np.save(tmp_path / "sar.npy", sar)
    return tmp_path / "optical.npy", tmp_path / "sar.npy"


@pytest.fixture
def at(bundle):
    """The option that names the tiny bundle."""
    return ("--bundle", bundle.folder, "--backend", "cpu")


@pytest.mark.parametrize("name", _COMMANDS)
def test_help_of_every_command_shows_a_runnable_example(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    examples = [line.strip() for line in result.output.partition("Example:")[2].splitlines()]
    examples = [line for line in examples if line]
    assert examples and all(line.startswith(f"esccs-edge {name}") for line in examples)
    assert "--json" in result.output and "--debug" in result.output


@pytest.mark.parametrize("name", _COMMANDS)
def test_examples_use_only_options_that_exist(name):
    command = _COMMANDS[name]
    parsed = import_module(f"esccs_edge.cli.{command}").run
    known = {option for parameter in parsed.params for option in parameter.opts}
    used = {word for word in parsed.epilog.split() if word.startswith("--")}
    assert used <= known


def test_help_names_every_command_in_order():
    output = run("--help").output
    listed = [
        line.split()[0] for line in output.partition("Commands:")[2].splitlines() if line.strip()
    ]
    assert [word for word in listed if word in _COMMANDS] == list(_COMMANDS)
    assert "..." not in output.partition("Commands:")[2]  # 80 columns hold each line


def test_help_of_all_commands_loads_no_heavy_package(tmp_path):
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from esccs_edge.cli import _COMMANDS, main\n"
        "for words in ([], *([name] for name in _COMMANDS)):\n"
        "    assert CliRunner().invoke(main, [*words, '--help']).exit_code == 0\n"
        f"print(sorted(set({HEAVY}) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"


def test_the_installed_script_and_the_module_answer(tmp_path):
    for command in (["esccs-edge"], [sys.executable, "-m", "esccs_edge"]):
        if command == ["esccs-edge"]:
            command = [str(Path(sys.executable).parent / "esccs-edge")]
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert done.stdout.startswith("esccs-edge, version ")


def test_classify_answers_with_the_promised_json(pair, at):
    answer = run_json("classify", *pair, *at)
    assert list(answer) == ["label", "confidence", "probabilities", "gate", "flags"]
    assert answer["label"] in CLASSES and set(answer["probabilities"]) == set(CLASSES)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert answer["confidence"] == max(answer["probabilities"].values())
    assert answer["gate"]["optical"] + answer["gate"]["sar"] == pytest.approx(1, abs=1e-5)


def test_classify_agrees_with_the_python_interface(pair, at, bundle):
    from esccs_edge import Classifier

    with Classifier(bundle, backend="cpu") as classifier:
        expected = classifier.classify(*map(np.load, pair))
    answer = run_json("classify", *pair, *at)
    assert answer["label"] == expected.label
    assert answer["confidence"] == pytest.approx(expected.confidence, abs=1e-6)


@pytest.mark.parametrize(
    ("absent", "gate"), [(0, {"optical": 0, "sar": 1}), (1, {"optical": 1, "sar": 0})]
)
def test_a_dash_is_an_absent_modality(pair, at, absent, gate):
    words = list(pair)
    words[absent] = "-"
    answer = run_json("classify", *words, *at)
    assert answer["gate"] == gate
    assert Flag.MODALITY_MISSING.value in answer["flags"]


def test_text_output_names_the_label_and_the_gate(pair, at):
    result = run("classify", *pair, *at)
    assert result.exit_code == 0
    assert result.stdout.split()[0] in CLASSES
    assert "gate: optical" in result.stdout


def test_precision_selects_the_arithmetic(pair, at):
    exact = run_json("classify", *pair, *at, "--precision", "fp32")
    assert exact["label"] == run_json("classify", *pair, *at)["label"]
    message = refused(run("classify", *pair, *at, "--precision", "int8"))
    assert "int8" in message


def test_baseline_shifts_the_digital_numbers(bundle, tmp_path, at):
    optical, sar = raw_pair(bundle.manifest, seed=5)
    for name, pixels in (("old", optical), ("new", optical + 1000), ("sar", sar)):
        np.save(tmp_path / f"{name}.npy", pixels)
    old = run_json("classify", tmp_path / "old.npy", tmp_path / "sar.npy", *at)
    shifted = ("classify", tmp_path / "new.npy", tmp_path / "sar.npy", *at)
    assert run_json(*shifted, "--baseline", "05.10")["probabilities"] == old["probabilities"]
    assert run_json(*shifted)["probabilities"] != old["probabilities"]


def test_a_missing_file_is_refused(pair, at, tmp_path):
    assert "absent.tif" in refused(run("classify", tmp_path / "absent.tif", pair[1], *at))


def test_a_corrupted_tif_is_refused(pair, at, tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\0" + bytes(range(200)))
    assert "broken.tif" in refused(run("classify", tmp_path / "broken.tif", pair[1], *at))


def test_linear_sar_is_refused_with_the_option_that_reads_it(bundle, pair, at, tmp_path):
    linear = (10 ** (np.load(pair[1]) / 10)).astype(np.float32)
    np.save(tmp_path / "linear.npy", linear)
    message = refused(run("classify", pair[0], tmp_path / "linear.npy", *at))
    assert "dB" in message and "--sar-unit linear" in message
    read = run_json("classify", pair[0], tmp_path / "linear.npy", *at, "--sar-unit", "linear")
    assert read["label"] == run_json("classify", *pair, *at)["label"]


def test_a_larger_raster_is_sent_to_map(bundle, at, tmp_path):
    size = bundle.manifest.sample.height * 2
    np.save(tmp_path / "large.npy", np.full((13, size, size), 900, np.uint16))
    assert "esccs-edge map" in refused(run("classify", tmp_path / "large.npy", "-", *at))


def test_an_unknown_bundle_is_refused(pair, tmp_path):
    assert "no bundle folder" in refused(run("classify", *pair, "--bundle", tmp_path / "nowhere"))


def test_debug_shows_the_traceback(pair, tmp_path):
    script = [sys.executable, "-m", "esccs_edge", "inspect", str(tmp_path / "nowhere"), "--debug"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr and "ArtifactError" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["classify"],
        ["classify", "-", "-"],
        ["classify", "a", "b", "--backend", "tpu"],
        ["paint"],
        ["map", "a.tif", "b.tif"],
        ["build", "default", "--flavor", "abacus"],
        ["bench", "--batch", "0"],
    ],
)
def test_wrong_usage_exits_with_2_and_prints_nothing_on_stdout(words):
    result = run(*words)
    assert result.exit_code == 2 and result.stdout == ""


def test_a_missing_package_is_named_with_its_extra(pair, at, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "esccs_edge.rasters.raster_file", raising=False)
    monkeypatch.delitem(sys.modules, "esccs_edge.rasters.gdal", raising=False)
    fake = pair[0].with_suffix(".tif")
    fake.write_bytes(b"")
    assert 'pip install "esccs-edge[geo]"' in refused(run("classify", fake, pair[1], *at))


def test_inspect_shows_the_contract(bundle):
    document = run_json("inspect", bundle.folder)
    assert document["manifest"]["classes"] == list(CLASSES)
    names = set(os.listdir(bundle.folder)) - {"manifest.json"}
    assert document["bytes"] == sum((bundle.folder / name).stat().st_size for name in names)
    assert document["layers"]["Gemm"] == 1
    text = run("inspect", bundle.folder).stdout
    assert "B8A" in text and "VV VH" in text and "student.onnx" in text
    assert "input         sar (N, 2, 16, 16), pixels" in text
    assert "output        gate (N, 2), share" in text


def test_verify_accepts_a_whole_bundle(bundle):
    document = run_json("verify", bundle.folder)
    assert document["ok"] is True and document["files"] == ["mlm.json", "student.onnx"]


def test_verify_refuses_one_changed_byte(bundle):
    model = bundle.folder / "student.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    assert "sha256" in refused(run("verify", bundle.folder))


def test_bench_reports_rows_and_host(at):
    document = run_json("bench", *at, "--batch", 1, "--batch", 4, "--seconds", 0)
    assert [row["batch"] for row in document["rows"]] == [1, 4]
    for row in document["rows"]:
        assert set(row) == {
            "batch", "threads", "p50_ms", "p90_ms", "p99_ms", "pairs_per_s", "calls",
            "joules_per_pair",
        }  # fmt: skip
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["pairs_per_s"] == pytest.approx(row["batch"] * 1e3 / row["p50_ms"])
    assert document["host"]["cores"] >= 1 and document["cold_start_ms"] > 0


def test_doctor_exits_with_1_only_if_something_required_fails():
    result = run("doctor", "--json")
    document = json.loads(result.stdout)
    works = all(check["ok"] for check in document["checks"] if check["required"])
    assert document["ok"] is works and result.exit_code == (0 if works else 1)
    names = {check["name"] for check in document["checks"]}
    assert {"native kernels", "default bundle", "NVIDIA GPU", "extra geo", "extra scale"} <= names


def test_doctor_tells_what_failed_and_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr("esccs_edge.contracts.bundle.MODELS", tmp_path / "nowhere")
    result = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 1
    assert not checks["default bundle"]["ok"] and "nowhere" in checks["default bundle"]["detail"]
    assert checks["native kernels"]["ok"]


def test_doctor_is_content_with_a_working_bundle(monkeypatch, bundle, tmp_path):
    bundle.copy(tmp_path / "default")
    monkeypatch.setattr("esccs_edge.contracts.bundle.MODELS", tmp_path)
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert "FAIL" not in result.stdout


def test_progress_and_chatter_stay_off_standard_output(at):
    result = run("bench", *at, "--batch", 1, "--seconds", 0, "--json")
    assert "bench ..." in result.stderr
    json.loads(result.stdout)


@pytest.fixture
def scene(bundle, tmp_path: Path):
    """Optical and SAR GeoTIFFs of 40 x 56 pixels with band descriptions."""
    import rasterio
    from affine import Affine

    rng = np.random.default_rng(1)
    arrays = {
        "optical": rng.integers(300, 4000, (13, 40, 56), np.uint16),
        "sar": rng.uniform(-20, -6, (2, 40, 56)).astype(np.float32),
    }
    for name, pixels in arrays.items():
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", count=len(pixels), height=40, width=56,
            dtype=pixels.dtype, crs="EPSG:32632", transform=Affine(10, 0, 6e5, 0, -10, 5.4e6),
        ) as dataset:  # fmt: skip
            dataset.write(pixels)
            dataset.descriptions = bundle.manifest.modalities[name].channels
    return tmp_path / "optical.tif", tmp_path / "sar.tif"


def test_map_writes_a_georeferenced_class_map(scene, at, tmp_path):
    import rasterio

    document = run_json("map", *scene, tmp_path / "map.tif", *at)
    assert (document["height"], document["width"]) == (40, 56)
    assert sum(document["class_shares"].values()) == pytest.approx(1)
    with rasterio.open(document["class_map"]) as found, rasterio.open(scene[0]) as source:
        assert (found.crs, found.transform, found.shape) == (
            source.crs, source.transform, source.shape,
        )  # fmt: skip
    assert Path(document["scores"]).is_file()


def test_map_keeps_an_existing_file_without_overwrite(scene, at, tmp_path):
    target = tmp_path / "map.tif"
    target.write_bytes(b"precious")
    message = refused(run("map", *scene, target, *at))
    assert "already exists" in message and "--overwrite" in message
    assert target.read_bytes() == b"precious"
    assert run("map", *scene, target, *at, "--overwrite").exit_code == 0
    assert target.read_bytes()[:2] == b"II"


def test_map_of_mismatched_rasters_writes_nothing(scene, at, bundle, tmp_path):
    np.save(tmp_path / "other.npy", np.zeros((2, 8, 8), np.float32))
    before = sorted(tmp_path.iterdir())
    refused(run("map", scene[0], tmp_path / "absent.tif", tmp_path / "map.tif", *at))
    refused(run("map", scene[1], scene[0], tmp_path / "map.tif", *at))
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def radar(tmp_path: Path):
    """A bundle of another task and modality, and a raster for it."""
    from support.rasters import write_raster
    from support.toy_task import toy_bundle

    pixels = np.random.default_rng(2).normal(-14, 4, (1, 40, 30)).clip(-34, -1)
    bundle = toy_bundle(tmp_path / "toy")
    at = ("--bundle", bundle.folder, "--backend", "cpu", "--precision", "fp32")
    return write_raster(tmp_path / "radar.tif", pixels.astype(np.float32)), at


@pytest.mark.parametrize("command", ["classify", "evaluate"])
def test_commands_of_scene_classification_refuse_another_task(radar, command):
    raster, at = radar
    words = ("classify", "-", raster, *at) if command == "classify" else ("evaluate", at[1], raster)
    message = refused(run(*words))
    assert "'toy-mapping', expected 'scene-classification'" in message and "map" in message


def test_map_takes_rasters_by_modality_for_any_bundle(radar, tmp_path):
    raster, at = radar
    options = (*at, "--quicklook", tmp_path / "map.png")
    document = run_json("map", "--input", f"radar={raster}", tmp_path / "map.tif", *options)
    assert set(document["class_shares"]) == {"Land", "Water", "Ice"}
    assert "mean_gate_optical" not in document and 0 < document["mean_confidence"] <= 1
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    text = run("map", "--input", f"radar={raster}", tmp_path / "again.tif", *at).stdout
    assert "mean confidence" in text and "gate" not in text


def test_map_names_the_option_for_other_modalities(radar, tmp_path):
    raster, at = radar
    message = refused(run("map", raster, "-", tmp_path / "map.tif", *at))
    assert "expected among radar" in message and "--input NAME=FILE" in message


@pytest.mark.parametrize(
    "words",
    [
        ["--input", "sar", "map.tif"],
        ["--input", "=a.tif", "map.tif"],
        ["--input", "sar=a.tif", "--input", "sar=b.tif", "map.tif"],
        ["--input", "sar=a.tif"],
        ["--input", "sar=a.tif", "o.tif", "s.tif", "map.tif"],
    ],
)
def test_map_refuses_inputs_without_a_name_or_with_positional_rasters(words):
    assert run("map", *words).exit_code == 2


def test_map_draws_a_quicklook_on_request(scene, at, tmp_path):
    run_json("map", *scene, tmp_path / "map.tif", *at, "--quicklook", tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch):
    from esccs_edge.cli.progress import Progress

    shown = {}
    for name, stream in (("terminal", _Terminal()), ("file", io.StringIO())):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress("map") as progress:
            progress(3, 4)
        shown[name] = stream.getvalue()
    assert "\rmap [" in shown["terminal"] and " 75%" in shown["terminal"]
    assert shown["file"] == "map ...\n"


# ---- options that would do nothing, and pipes that cannot take every letter ----------------------


@pytest.mark.parametrize(
    "words",
    [("classify", "OPTICAL", "-", "--sar-unit", "linear"),
     ("classify", "-", "SAR", "--baseline", "05.10"),
     ("map", "-", "SAR", "map.tif", "--baseline", "05.10"),
     ("map", "--input", "optical=OPTICAL", "--input", "sar=-", "map.tif", "--sar-unit", "dB")],
)  # fmt: skip
def test_an_option_about_an_absent_modality_is_refused(pair, at, words):
    paths = {"OPTICAL": pair[0], "SAR": pair[1], "optical=OPTICAL": f"optical={pair[0]}"}
    result = run(*(paths.get(word, word) for word in words), *at)
    assert result.exit_code == 2 and result.stdout == ""
    assert "--sar-unit" in result.stderr or "--baseline" in result.stderr


def test_a_baseline_means_nothing_to_reflectance_and_is_refused(pair, at):
    np.save(pair[0], (np.load(pair[0]) * 1e-4).astype(np.float32))
    message = refused(run("classify", pair[0], "-", "--baseline", "05.10", *at))
    assert "--baseline is -1000" in message and "Leave it out" in message


@pytest.mark.parametrize("json_wanted", [True, False])
def test_a_narrow_pipe_gets_escapes_and_no_crash(bundle, tmp_path, json_wanted):
    folder = tmp_path / "\u65e5\u672c"
    folder.mkdir()
    random = np.random.default_rng(0)
    write_raster(folder / "o.tif", random.integers(200, 6000, (13, 16, 16), np.uint16))
    words = ["map", str(folder / "o.tif"), "-", str(folder / "map.tif"), "--bundle",
             str(bundle.folder), "--backend", "cpu", *["--json"] * json_wanted]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "esccs_edge", *words],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\\u65e5" in done.stdout
    if json_wanted:
        assert str(folder) in str(json.loads(done.stdout))
