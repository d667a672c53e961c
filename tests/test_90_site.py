"""The documentation site: complete pages, a complete reference; `make docs` builds it."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import esccs_edge
from esccs_edge.cli import _COMMANDS

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """The laid out pages."""
    target = tmp_path_factory.mktemp("site") / "docs"
    runpy.run_path(str(DOCS / "site.py"))["lay_out"](target)
    return target


def test_the_navigation_names_every_page_and_no_other(pages):
    named = re.findall(r": (\S+\.md)$", (DOCS / "mkdocs.yml").read_text(), re.MULTILINE)
    found = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    assert sorted(named) == sorted(found)


def test_the_reference_holds_every_public_name(pages):
    documented = "\n".join(path.read_text() for path in (pages / "reference").glob("*.md"))
    names = re.findall(r"^::: esccs_edge\.(\S+)$", documented, re.MULTILINE)
    errors = {
        name
        for name in esccs_edge.__all__
        if getattr(esccs_edge, name).__module__.endswith("errors")
    }
    known = {name.rpartition(".")[2] for name in names} | (errors if "errors" in names else set())
    assert set(esccs_edge.__all__) <= known
    assert all(f"\n## {name}\n" in documented for name in _COMMANDS)


def test_links_lead_to_pages_and_files_of_the_site(pages):
    for path in pages.rglob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="building needs the extra docs")
def test_the_site_is_built_without_a_warning(pages, tmp_path):
    shutil.copy(DOCS / "mkdocs.yml", tmp_path / "mkdocs.yml")
    text = (tmp_path / "mkdocs.yml").read_text().replace("../build/docs", str(pages))
    text = text.replace("paths: [..]", f"paths: [{DOCS.parent}]")
    (tmp_path / "mkdocs.yml").write_text(text.replace("../build/site", str(tmp_path / "site")))
    words = ["mkdocs", "build", "--strict", "-f", str(tmp_path / "mkdocs.yml")]
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Classify one pair" in (tmp_path / "site/reference/models/index.html").read_text()
