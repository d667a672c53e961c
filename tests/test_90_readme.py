"""The README tells the truth: its Python runs, its commands parse, its tables are complete."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from importlib.metadata import metadata
from pathlib import Path

import click
import pytest

from esccs_edge.cli import _COMMANDS, main
from esccs_edge.contracts import bundle_files
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import ModalitySpec, SampleSpec

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MARKDOWN = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def shell_lines(text: str = README) -> list[str]:
    """Command lines of the shell blocks, without comments."""
    lines = "\n".join(blocks("sh", text)).replace("\\\n", " ").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.split("#")[0].strip()]


def parse(words: list[str]) -> None:
    """Parse a command line as click would, without running it."""
    root = main.make_context("esccs-edge", words[:1], resilient_parsing=True)
    found = main.get_command(root, words[0])
    assert found is not None, f"no command {words[0]}"
    found.make_context(words[0], words[1:], parent=root)


PYTHON = blocks("python")
COMMAND_LINES = [
    pytest.param(line, id=f"{name}: {line}")
    for name, text in MARKDOWN.items()
    for line in shell_lines(text)
    if line.startswith("esccs-edge ")
]


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_blocks_run(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


def test_the_example_is_about_ten_lines():
    assert len(PYTHON[0].strip().splitlines()) <= 10


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_lines_parse(line):
    parse(shlex.split(line)[1:])


def test_a_wrong_command_line_would_be_noticed():
    with pytest.raises(click.NoSuchOption):
        parse(["classify", "a.tif", "b.tif", "--no-such-option"])


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    used = {word for line in shell_lines() if line.startswith("make ") for word in line.split()[1:]}
    assert used and used <= targets


def test_extras_exist():
    known = set(metadata("esccs-edge").get_all("Provides-Extra"))
    used = set(",".join(re.findall(r"(?:\.|esccs-edge)\[([\w,]+)\]", README)).split(","))
    table = set(re.findall(r"^\| `([^|]*?)` \|", README, re.MULTILINE))
    assert used <= known and "geo" in used
    assert {"train", "export", "dev"} <= table


def test_the_table_of_commands_is_complete():
    page = MARKDOWN["docs/commands.md"]
    assert re.findall(r"^\| `esccs-edge ([\w-]+)`", page, re.MULTILINE) == list(_COMMANDS)


def test_the_manifest_table_names_every_field():
    page = MARKDOWN["docs/bundle-format.md"]
    named = set(re.findall(r"\w+", "".join(re.findall(r"`[^`]+`", page))))
    expected = {f.name for cls in (Manifest, ModalitySpec, SampleSpec) for f in fields(cls)}
    assert expected <= named


def test_the_table_of_bundle_files_is_complete():
    page = MARKDOWN["docs/bundle-format.md"]
    values = [value for name, value in vars(bundle_files).items() if name.isupper()]
    names = {value for value in values if isinstance(value, str)}
    assert names and names <= set(re.findall(r"^\| `([\w.-]+)` \|", page, re.MULTILINE))


def test_links_and_pictures_lead_to_files():
    for name, text in MARKDOWN.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (REPOSITORY / name).parent.joinpath(target).exists(), f"{name}: {target}"


def test_readme_stays_readable():
    assert len(README.split()) <= 900
