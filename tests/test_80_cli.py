"""The command line from the outside: help, JSON shapes, exit codes, refusals that write nothing."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny import CLASSES, raw_pair

from esccs_edge.cli import _COMMANDS, main
from esccs_edge.scene import Flag

HEAVY = ("openvino", "rasterio", "torch", "onnx", "cv2", "matplotlib", "tensorrt_rtx", "lightning")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run_json(*arguments, code: int = 0):
    """Run with --json; standard output must be one JSON document and nothing else."""
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


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


def test_baseline_shifts_the_digital_numbers(bundle, tmp_path, at):
    optical, sar = raw_pair(bundle.manifest, seed=5)
    for name, pixels in (("old", optical), ("new", optical + 1000), ("sar", sar)):
        np.save(tmp_path / f"{name}.npy", pixels)
    old = run_json("classify", tmp_path / "old.npy", tmp_path / "sar.npy", *at)
    shifted = ("classify", tmp_path / "new.npy", tmp_path / "sar.npy", *at)
    assert run_json(*shifted, "--baseline", "05.10")["probabilities"] == old["probabilities"]
    assert run_json(*shifted)["probabilities"] != old["probabilities"]


def refused(result) -> str:
    """A refusal: exit code 1, nothing on standard output, one message and no traceback."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.count("error:") == 1 and "Traceback" not in result.stderr
    return result.stderr


def test_a_missing_file_is_refused(pair, at, tmp_path):
    assert "absent.tif" in refused(run("classify", tmp_path / "absent.tif", pair[1], *at, "--json"))


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
    size = bundle.manifest.patch_size * 2
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
    monkeypatch.delitem(sys.modules, "esccs_edge.raster_file", raising=False)
    fake = pair[0].with_suffix(".tif")
    fake.write_bytes(b"")
    assert 'pip install "esccs-edge[geo]"' in refused(run("classify", fake, pair[1], *at))


def test_inspect_tells_the_contract(bundle):
    document = run_json("inspect", bundle.folder)
    assert document["manifest"]["classes"] == list(CLASSES)
    assert document["bytes"] == sum(path.stat().st_size for path in bundle.folder.glob("*.onnx"))
    assert document["layers"]["Gemm"] == 1
    text = run("inspect", bundle.folder).stdout
    assert "B8A" in text and "VV VH" in text and "student.onnx" in text


def test_verify_accepts_a_whole_bundle(bundle):
    document = run_json("verify", bundle.folder)
    assert document["ok"] is True and document["files"] == ["student.onnx"]


def test_verify_refuses_one_changed_byte(bundle):
    model = bundle.folder / "student.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    assert "sha256" in refused(run("verify", bundle.folder, "--json"))


def test_bench_reports_rows_and_host(at):
    document = run_json("bench", *at, "--batch", 1, "--batch", 4, "--seconds", 0)
    whole = [row for row in document["rows"] if row["peer"] == "esccs-edge"]
    assert [row["batch"] for row in whole] == [1, 4]
    for row in document["rows"]:
        assert set(row) == {
            "peer", "patch", "batch", "threads", "p50_ms", "p90_ms", "p99_ms", "pairs_per_s",
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
    monkeypatch.setattr("esccs_edge.bundle.DEFAULT_FOLDER", tmp_path / "nowhere")
    result = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 1
    assert not checks["default bundle"]["ok"] and "nowhere" in checks["default bundle"]["detail"]
    assert checks["native kernels"]["ok"]


def test_doctor_is_content_with_a_working_bundle(monkeypatch, bundle):
    monkeypatch.setattr("esccs_edge.bundle.DEFAULT_FOLDER", bundle.folder)
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
            dataset.descriptions = getattr(bundle.manifest, name).channels
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


def test_map_keeps_an_existing_file_unless_told_otherwise(scene, at, tmp_path):
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


def test_map_draws_a_quicklook_on_request(scene, at, tmp_path):
    run_json("map", *scene, tmp_path / "map.tif", *at, "--quicklook", tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_trained_bundle_goes_from_export_to_engine(tmp_path):
    from small_student import small_bundle, small_index

    bundle = small_bundle(tmp_path / "bundle")
    index = small_index(tmp_path / "pairs", bundle.manifest, 96)
    exported = run_json("export", bundle.folder)
    assert {"student.onnx", "reference.npz"} <= set(exported["files"])
    report = run_json("calibrate", bundle.folder, index, "--method", "max", "--max-loss", 20)
    assert report["method"] == "max" and report["bytes"]["student.int8.onnx"] > 0
    forms = run_json("verify", bundle.folder)["parity"]["forms"]
    assert {row["name"] for row in forms} == {"student.onnx", "student.int8.onnx", "backend cpu"}
    assert run_json("inspect", bundle.folder)["manifest"]["quantization"]["method"] == "max"


@pytest.fixture
def index(bundle, tmp_path: Path) -> Path:
    """48 labelled simulated pairs that the tiny bundle can read."""
    from small_student import small_index

    return small_index(tmp_path / "pairs", bundle.manifest, 48)


def test_evaluate_answers_with_the_promised_json(bundle, index):
    report = run_json("evaluate", bundle.folder, index)
    assert list(report) == ["overall", "by_cloud", "confusion", "simulated"]
    assert report["simulated"] == []
    assert np.array(report["confusion"]).sum() == report["overall"]["n"]
    assert np.trace(np.array(report["confusion"])) == pytest.approx(
        report["overall"]["oa"] * report["overall"]["n"]
    )
    assert list(report["by_cloud"]) == ["0-20", "20-40", "40-60", "60-80", "80-100"]
    for row in (report["overall"], *report["by_cloud"].values()):
        assert {"oa", "balanced_accuracy", "macro_f1", "kappa", "ece", "n"} <= set(row)
    assert sum(row["n"] for row in report["by_cloud"].values()) == report["overall"]["n"] == 16


@pytest.fixture
def optical_only(index) -> Path:
    """The same pairs without their SAR."""
    from dataclasses import replace

    from esccs_edge.pairs import read_index, write_index

    rows = [replace(row, sar=None) for row in read_index(index).rows]
    write_index(index.with_name("optical.csv"), rows)
    return index.with_name("optical.csv")


def test_evaluate_simulates_sar_only_for_a_model_that_learned_from_simulated_sar(
    bundle, index, optical_only
):
    held_back = run_json("evaluate", bundle.folder, index, "--only", "optical")
    assert run_json("evaluate", bundle.folder, optical_only) == held_back
    taught = bundle.add({}, provenance={"simulated": {"sar": "all of it"}})
    assert run_json("evaluate", taught.folder, index)["simulated"] == []
    told = run_json("evaluate", taught.folder, optical_only, "--clouds", 1)
    assert told["simulated"] == ["sar", "clouds"]
    assert run_json("evaluate", taught.folder, optical_only, "--only", "optical") == held_back


def test_evaluate_reads_undescribed_files_in_the_order_of_the_model(bundle, index):
    """As `classify` does, whatever the model calls its channels."""
    from dataclasses import replace

    expected = run_json("evaluate", bundle.folder, index)
    sar = replace(bundle.manifest.sar, channels=("first", "second"))
    renamed = bundle.add({}, sar=sar)
    assert run_json("evaluate", renamed.folder, index) == expected


def test_evaluate_with_simulated_clouds_depends_on_the_seed_alone(bundle, index):
    first, again, other = (
        run_json("evaluate", bundle.folder, index, "--clouds", seed) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_evaluate_counts_like_the_python_interface(bundle, index):
    from esccs_edge import Classifier
    from esccs_edge.pairs import read_index

    pairs = read_index(index, bundle.manifest.classes)
    with Classifier(bundle, backend="cpu") as classifier:
        right = [
            classifier.classify(
                *pairs.load(i, bundle.manifest.optical, bundle.manifest.sar)
            ).label == row.label
            for i, row in enumerate(pairs.rows)
            if row.split == "val"
        ]  # fmt: skip
    report = run_json("evaluate", bundle.folder, index, "--split", "val")
    assert report["overall"]["oa"] == pytest.approx(np.mean(right))


def test_evaluate_needs_no_torch(bundle, index, tmp_path):
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "from esccs_edge.cli import main\n"
        f"main(['evaluate', {str(bundle.folder)!r}, {str(index)!r}, '--clouds', '1'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "balanced_accuracy" in done.stdout


def test_train_needs_data_and_a_folder(tmp_path):
    assert run("train", "--out", tmp_path / "run").exit_code == 2
    assert run("train", "--data", "index.csv").exit_code == 2
    assert run("train", "--set", "novalue").exit_code == 2


def test_train_refuses_an_unknown_option_by_name(index, tmp_path):
    words = ("train", "--data", index, "--out", tmp_path / "run", "--set", "student.colour=3")
    assert "student.colour" in refused(run(*words))
    assert not (tmp_path / "run").exists()


def test_train_settings_win_over_the_file(tmp_path):
    from esccs_edge.cli.training_options import training_options

    config = tmp_path / "run.toml"
    config.write_text('data = "a.csv"\nseed = 1\n[student.schedule]\nepochs = 9\nbatch_size = 4\n')
    found = training_options(config, {"seed": 5}, ("student.schedule.epochs=2", "out=runs/x"))
    assert (found.data, found.seed, found.out) == ("a.csv", 5, "runs/x")
    assert (found.student.schedule.epochs, found.student.schedule.batch_size) == (2, 4)


@pytest.mark.slow
def test_train_ends_with_a_bundle_and_resumes_to_the_same(index, tmp_path):
    config = tmp_path / "run.toml"
    schedules = "".join(
        f"[{step}.schedule]\nepochs = 1\nbatch_size = 16\n" for step in ("teacher", "auxiliary")
    )
    widths = "".join(
        f"[{part}]\nwidth = 4\n"
        for part in ("teacher.network", "auxiliary.optical", "auxiliary.sar", "student.optical")
    )
    config.write_text(f"data = {str(index)!r}\n{schedules}{widths}")
    words = ("train", "--config", config, "--out", tmp_path / "run",
             "--set", "student.schedule.epochs=1", "--set", "student.sar.width=4")  # fmt: skip
    trained = run_json(*words)
    assert Path(trained["bundle"], "manifest.json").is_file()
    assert "already holds a run" in refused(run(*words))
    assert run_json(*words, "--resume") == trained
    assert run_json("verify", trained["bundle"])["files"] == ["student.safetensors"]


def test_compare_refuses_an_unknown_method_and_writes_nothing(index, tmp_path):
    out = tmp_path / "compare"
    words = ("compare", "--train", index, "--test", index, "--out", out, "--methods", "magic")
    assert "magic" in refused(run(*words))
    assert not out.exists()


@pytest.mark.slow
def test_compare_prints_its_table_and_resumes(index, tmp_path):
    words = ("compare", "--train", index, "--test", index, "--out", tmp_path / "compare",
             "--methods", "source-only", "--set", "teacher.network.width=4",
             "--set", "teacher.schedule.epochs=1", "--set", "threads=1")  # fmt: skip
    document = run_json(*words)
    assert [row["method"] for row in document["rows"]] == ["source-only"]
    assert 0 <= document["rows"][0]["balanced_accuracy_mean"] <= 1
    assert run_json(*words, "--resume") == document
    assert "| source-only |" in run(*words, "--resume").stdout


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
