"""What `pip install` puts on a machine: one package, no C++ sources, nothing at the top level."""

from __future__ import annotations

import json
import re
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

import pytest

import esccs_edge

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed_files() -> list[PurePosixPath]:
    """Files of the installed wheel; an editable install has none of its own."""
    found = distribution("esccs-edge")
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("editable install: `make test` installs the wheel and runs this")
    return [PurePosixPath(str(file)) for file in found.files or []]


def test_the_suite_tests_the_installed_package_not_the_sources(installed_files):
    assert not Path(esccs_edge.__file__).is_relative_to(REPOSITORY / "esccs_edge")


def test_only_the_package_and_its_metadata_stand_at_the_top_level(installed_files):
    in_site = [file for file in installed_files if file.parts[0] != ".."]
    tops = {file.parts[0] for file in in_site}
    assert tops == {"esccs_edge", next(top for top in tops if top.endswith(".dist-info"))}
    scripts = {file.name for file in installed_files if file.parts[0] == ".."}
    assert scripts <= {"esccs-edge", "esccs-edge.exe"}


def test_the_four_packages_stand_inside_the_package(installed_files):
    folders = {file.parts[1] for file in installed_files if len(file.parts) > 2}
    assert {"training", "export", "calibration", "cli"} <= folders


def test_no_native_sources_are_shipped(installed_files):
    sources = [f for f in installed_files if f.suffix in (".cpp", ".h", ".cu", ".hpp", ".txt.in")]
    assert sources == []
    assert not [file for file in installed_files if "native" in file.parts]


def test_kernel_and_type_marker_are_shipped(installed_files):
    names = {file.name for file in installed_files}
    assert "py.typed" in names
    assert any(name.startswith("_preprocess_cpu") for name in names)


def test_no_tests_and_no_data_are_shipped(installed_files):
    assert not [f for f in installed_files if "tests" in f.parts or f.suffix in (".tif", ".npy")]


def test_the_page_of_the_service_is_shipped(installed_files):
    assert any(f.parts[-2:] == ("serve", "page.html") for f in installed_files)


def test_container_recipes_name_extras_files_and_commands_that_exist():
    root = REPOSITORY
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    _, _, table = project.partition("[project.optional-dependencies]")
    extras = set(re.findall(r"^(\w+) = \[", table.partition("\n[")[0], re.MULTILINE))
    recipes = sorted((root / "docs" / "docker").glob("Dockerfile*"))
    assert len(recipes) == 4
    for recipe in recipes:
        text = recipe.read_text()
        if recipe.suffix == ".dockerignore":
            kept = {line[1:] for line in text.splitlines() if line.startswith("!")}
            assert all((root / name).exists() for name in kept)
            packages = {path.parent.name for path in root.glob("*/__init__.py")} - {"tests"}
            assert packages | {"pyproject.toml", "CMakeLists.txt"} <= kept
            continue
        named = set(",".join(re.findall(r"\[([a-z,]+)\]", text)).split(","))
        assert named and named <= extras
        assert (
            'ENTRYPOINT ["esccs-edge"]' in text
            and '"serve"' in text
            and "--uid 10001" in text
            and "USER 10001\n" in text
        )
