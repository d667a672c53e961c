"""A project of a user times the classifier with pytest-benchmark, outside this repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny import tiny_bundle

TEST = """
def test_latency(benchmark, esccs_classifier, esccs_pairs):
    optical, sar = esccs_pairs[0]
    assert benchmark(esccs_classifier.classify, optical, sar).label
"""
#: As an installed entry point would load it, but of the package under test.
PLUGINS = ("-p", "pytest_benchmark.plugin", "-p", "esccs_edge.pytest_plugin")
QUICK = ("--benchmark-min-rounds=3", "--benchmark-max-time=0.01", "--benchmark-warmup=off")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "test_station.py").write_text(TEST)
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # What the surrounding pytest sets is not for this one: pytest-benchmark is off under xdist.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *PLUGINS, *QUICK, *arguments],
        cwd=project, env={**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_three_lines_time_the_packaged_model_and_say_what_was_timed(project):
    done = run(project, "--esccs-backend=cpu", "--esccs-threads=1", "--benchmark-json=out.json")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((project / "out.json").read_text())["benchmarks"]
    facts = row["extra_info"]["esccs_edge"]
    assert row["stats"]["rounds"] >= 3 and row["stats"]["median"] > 0
    assert facts["ok"] and len(facts["bundle"]["digest"]) == 64 and facts["backend"]


def test_the_options_choose_bundle_and_backend(project):
    bundle = tiny_bundle(project / "bundle", 64)
    done = run(project, f"--esccs-bundle={bundle.folder}", "--benchmark-json=out.json",
               "--esccs-backend=cpu")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((project / "out.json").read_text())["benchmarks"]
    assert row["extra_info"]["esccs_edge"]["bundle"]["digest"] == bundle.digest
    refused = run(project, "--esccs-backend=abacus")
    assert refused.returncode != 0 and "abacus" in refused.stdout


def test_a_slower_run_than_the_saved_one_fails_the_gate(project):
    assert run(project, "--esccs-backend=cpu", "--benchmark-save=base").returncode == 0
    gate = ("--esccs-backend=cpu", "--benchmark-compare", "--benchmark-compare-fail")
    assert run(project, *gate, "median:100").returncode == 0
    (saved,) = project.glob(".benchmarks/*/*_base.json")
    text = json.loads(saved.read_text())
    text["benchmarks"][0]["stats"]["median"] /= 1000
    saved.write_text(json.dumps(text))
    assert run(project, *gate, "median:99%").returncode != 0


def test_a_test_without_benchmark_may_use_the_fixtures(project):
    (project / "test_station.py").write_text(
        "def test_all(esccs_classifier, esccs_pairs):\n"
        "    found = esccs_classifier.classify_batch(*map(list, zip(*esccs_pairs)))\n"
        "    assert len(found) == 32 and all(answer.label for answer in found)\n"
    )
    assert run(project, "--esccs-backend=cpu").returncode == 0
