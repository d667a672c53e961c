"""The commands that make and judge a model: shapes of their answers, refusals, resuming."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli_parts import refused, run, run_json

from esccs_edge.system.cpu_features import gains_by_int8

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
HEAVY = ("openvino", "rasterio", "torch", "onnx", "cv2", "matplotlib", "tensorrt_rtx", "lightning")


@needs_torch
def test_a_trained_bundle_goes_from_export_to_engine(tmp_path):
    from support.small_student import small_bundle, small_index

    bundle = small_bundle(tmp_path / "bundle")
    index = small_index(tmp_path / "pairs", bundle.manifest, 96)
    exported = run_json("export", bundle.folder)
    assert {"student.onnx", "reference.npz"} <= set(exported["files"])
    report = run_json("calibrate", bundle.folder, index, "--method", "max", "--max-loss", 20)
    assert report["method"] == "max" and report["bytes"]["student.int8.onnx"] > 0
    forms = run_json("verify", bundle.folder)["parity"]["forms"]
    *files, backend = (row["name"] for row in forms)
    assert set(files) == {"student.onnx", "student.int8.onnx"}
    assert backend == f"backend cpu, {'int8' if gains_by_int8() else 'fp32'}"
    assert run_json("inspect", bundle.folder)["manifest"]["quantization"]["method"] == "max"


@pytest.fixture
def index(bundle, tmp_path: Path) -> Path:
    """48 labeled simulated pairs that the tiny bundle can read."""
    from support.small_student import small_index

    return small_index(tmp_path / "pairs", bundle.manifest, 48)


def test_evaluate_answers_with_the_promised_json(bundle, index):
    report = run_json("evaluate", bundle.folder, index)
    assert list(report) == [
        "overall", "by_cloud", "risk_coverage", "confusion", "simulated", "model", "precision",
    ]  # fmt: skip
    assert report["simulated"] == []
    assert run_json("evaluate", bundle.folder, index, "--precision", "fp32")["precision"] == "fp32"
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
    from support.pairs import pair_row

    from esccs_edge.rasters.pair_index import read_index, write_index

    rows = [
        pair_row(row.paths["optical"], None, row.label, row.group, row.split, row.cover)
        for row in read_index(index).rows
    ]
    write_index(index.with_name("optical.csv"), rows)
    return index.with_name("optical.csv")


def test_evaluate_simulates_missing_sar_on_request_only(bundle, index, optical_only):
    held_back = run_json("evaluate", bundle.folder, index, "--only", "optical")
    assert run_json("evaluate", bundle.folder, optical_only) == held_back
    words = ("evaluate", bundle.folder, optical_only, "--simulate-sar", "--clouds", 1)
    assert run_json(*words)["simulated"] == ["sar", "clouds"]
    assert "simulated: SAR (from optical pixels, never from labels), clouds" in run(*words).stdout
    assert "has SAR" in refused(run("evaluate", bundle.folder, index, "--simulate-sar"))
    assert "no SAR to judge" in refused(
        run("evaluate", bundle.folder, optical_only, "--only", "sar")
    )


def test_evaluate_reads_undescribed_files_in_the_order_of_the_model(bundle, index):
    """As `classify` does, whatever the model calls its channels."""
    from dataclasses import replace

    expected = run_json("evaluate", bundle.folder, index)
    sar = replace(bundle.manifest.modalities["sar"], channels=("first", "second"))
    renamed = bundle.add({}, modalities={**bundle.manifest.modalities, "sar": sar})
    assert run_json("evaluate", renamed.folder, index) == expected


def test_evaluate_with_simulated_clouds_depends_on_the_seed_alone(bundle, index):
    first, again, other = (
        run_json("evaluate", bundle.folder, index, "--clouds", seed) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_evaluate_counts_like_the_python_interface(bundle, index):

    from esccs_edge import Classifier
    from esccs_edge.rasters.pair_index import read_index

    pairs = read_index(index, bundle.manifest.classes)
    with Classifier(bundle, backend="cpu") as classifier:
        right = [
            classifier.classify(
                *pairs.load(i, bundle.manifest.modalities).values()
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
    words = ("train", "--data", index, "--out", tmp_path / "run", "--set", "student.color=3")
    assert "student.color" in refused(run(*words))
    assert not (tmp_path / "run").exists()


def test_train_settings_win_over_the_file(tmp_path):
    from esccs_edge.cli.training_options import training_options

    config = tmp_path / "run.toml"
    config.write_text('data = "a.csv"\nseed = 1\n[student.schedule]\nepochs = 9\nbatch_size = 4\n')
    found: Any = training_options(config, {"seed": 5}, ("student.schedule.epochs=2", "out=runs/x"))
    assert (found.data, found.seed, found.out) == ("a.csv", 5, "runs/x")
    assert (found.student.schedule.epochs, found.student.schedule.batch_size) == (2, 4)


def test_train_refuses_an_unknown_task_by_name(index, tmp_path):
    words = ("train", "--data", index, "--out", tmp_path / "run", "--task", "none-such")
    assert "'none-such', expected one of" in refused(run(*words))
    assert not (tmp_path / "run").exists()


@needs_torch
def test_train_learns_another_task_with_options_of_its_own(tmp_path):
    from support.toy_learning import write_toy_data

    config = tmp_path / "run.toml"
    config.write_text('task = "toy-mapping"\nwidth = 3\n[schedule]\nepochs = 1\n')
    data = write_toy_data(tmp_path / "toy.npz")
    words = ("train", "--config", config, "--data", data, "--set", "width=2")
    trained = run_json(*words, "--out", tmp_path / "run")
    assert trained["provenance"]["options"]["width"] == 2
    bundle = Path(trained["bundle"])
    assert '"task": "toy-mapping"' in (bundle / "manifest.json").read_text()
    assert "expected 'scene-classification'" in refused(run("evaluate", bundle, "index.csv"))


@needs_torch
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
    assert run_json("verify", trained["bundle"])["files"] == ["mlm.json", "student.safetensors"]


@needs_torch
def test_compare_refuses_an_unknown_method_and_writes_nothing(index, tmp_path):
    out = tmp_path / "compare"
    words = ("compare", "--train", index, "--test", index, "--out", out, "--methods", "magic")
    assert "magic" in refused(run(*words))
    assert not out.exists()


@needs_torch
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


def test_evaluate_compares_real_triplets_with_a_judge(bundle, index, tmp_path):
    from support.sen12ms_cr_layout import write_npz
    from support.tiny import CLASSES

    write_npz(tmp_path / "triplets.npz", ["1", "1000"], size=16)
    probabilities = np.eye(len(CLASSES))[[0, 1]]
    np.savez(tmp_path / "judge.npz", id=["1", "1000"], row=[0, 0], col=[0, 0],
             probabilities=probabilities, classes=np.array(CLASSES))  # fmt: skip
    source = f"sen12ms-cr:{tmp_path / 'triplets.npz'}"
    words = ("evaluate", bundle.folder, source, "--judge", tmp_path / "judge.npz")
    report = run_json(*words)
    assert report["n"] == 2 and "cloudy + SAR" in report["rows"] and report["simulated"] == []
    assert "nothing is simulated" in run(*words).stdout
    assert run(*words, "--only", "sar").exit_code == 2
    assert run("evaluate", bundle.folder, index, *words[3:]).exit_code == 2
