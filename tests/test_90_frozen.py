"""Programs frozen by PyInstaller: the hook that the package brings, and a whole program."""

from __future__ import annotations

import os
import pkgutil
import runpy
import shutil
import subprocess
import sys
import types
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

import esccs_edge
from esccs_edge.contracts.bundle import MODELS
from esccs_edge.cuda.driver import PROVIDERS
from esccs_edge.errors import ArtifactError
from esccs_edge.frozen import hook_dirs

PROGRAM = """
import esccs_edge

with esccs_edge.Classifier("default", backend="cpu") as classifier:
    pair = esccs_edge.example_pair()
    print(classifier.classify(pair.optical, pair.sar).label)
"""


@pytest.fixture
def hook(monkeypatch):
    """What the hook asks for, run with a PyInstaller that walks folders and imports nothing."""

    def collect_submodules(package, filter, on_error):
        folder = Path(esccs_edge.__file__).parent
        found = pkgutil.walk_packages([str(folder)], "esccs_edge.", onerror=lambda name: None)
        return [module.name for module in found if filter(module.name)]

    hooks = types.SimpleNamespace(
        collect_submodules=collect_submodules,
        collect_data_files=lambda package: [f"data of {package}"],
        collect_dynamic_libs=lambda package, search_patterns: [(package, search_patterns)],
        copy_metadata=lambda package: [f"metadata of {package}"],
    )
    for name in ("PyInstaller", "PyInstaller.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "PyInstaller.utils.hooks", hooks)
    (folder,) = hook_dirs()
    return runpy.run_path(os.path.join(folder, "hook-esccs_edge.py"))


def test_the_hook_is_found_by_its_entry_point():
    found = [point.value for point in entry_points(group="pyinstaller40")]
    if "esccs_edge.frozen:hook_dirs" not in found:
        pytest.skip("the metadata of this installation are older than the hook")
    assert Path(hook_dirs()[0], "hook-esccs_edge.py").is_file()


def test_modules_that_a_table_names_are_in_the_program(hook):
    named = {f"esccs_edge{module}" for module in esccs_edge._LATE.values()}
    named |= {f"esccs_edge.cuda.{module}" for module in PROVIDERS.values()}
    named |= {"esccs_edge.backends.cpu.backend", "esccs_edge.contracts.tasks.scene_classification"}
    assert named <= set(hook["hiddenimports"])


def test_the_rooms_that_need_torch_are_not(hook):
    assert not [name for name in hook["hiddenimports"] if "training" in name or "export" in name]


def test_files_and_libraries_that_are_opened_by_name_are(hook):
    assert hook["datas"] == ["data of esccs_edge", "metadata of esccs-edge"]
    if find_spec("openvino") is not None:
        ((package, patterns),) = hook["binaries"]
        assert package == "openvino" and "*.so.*" in patterns


def test_without_its_files_the_package_says_what_to_add(monkeypatch, tmp_path):
    monkeypatch.setattr("esccs_edge.contracts.bundle.MODELS", tmp_path / "none")
    with pytest.raises(ArtifactError, match="PyInstaller"):
        esccs_edge.Bundle.open("default")
    assert MODELS.is_dir()


def test_a_frozen_program_classifies(tmp_path):
    """The whole of it, minutes long; only where PyInstaller is installed."""
    if find_spec("PyInstaller") is None:
        pytest.skip("PyInstaller is not installed")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    words = ["-m", "PyInstaller", "--onedir", "--noconfirm", "--log-level", "ERROR"]
    hooks = ["--additional-hooks-dir", *hook_dirs()]
    subprocess.run([sys.executable, *words, *hooks, str(program)], cwd=tmp_path, check=True)
    moved = shutil.move(tmp_path / "dist" / "program", tmp_path / "elsewhere")
    alone = {"HOME": str(tmp_path)}
    answer = subprocess.run([Path(moved, "program")], env=alone, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    pair = esccs_edge.example_pair()
    with esccs_edge.Classifier("default", backend="cpu") as classifier:
        assert answer.stdout.strip() == classifier.classify(pair.optical, pair.sar).label
