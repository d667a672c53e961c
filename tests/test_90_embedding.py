"""The page about embedding: its programs run, its tables of flags and errors are complete."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from support.shell_blocks import blocks

from esccs_edge import EsccsError, Flag, Remedy, errors

PAGE = (Path(__file__).parent.parent / "docs" / "embedding.md").read_text(encoding="utf-8")
PROGRAMS = blocks("python", PAGE)


@pytest.mark.parametrize("code", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_run(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "embedding.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


def test_the_table_of_flags_is_complete():
    assert set(re.findall(r"^\| `(?!ESCCS)([A-Z_]+)` \|", PAGE, re.MULTILINE)) == {
        f.value for f in Flag
    }
    documented = inspect.getdoc(Flag)
    assert all(f"{flag.value}: " in documented for flag in Flag)


def test_the_table_of_errors_is_complete_and_right():
    rows = re.findall(r"^\| `(\w+)` \| `([\w-]+)` \| (.*?)\|.*\| (\d+) \|$", PAGE, re.MULTILINE)
    kinds = {
        kind.__name__: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, EsccsError) and kind is not EsccsError
    }
    assert {name for name, *_ in rows} == set(kinds)
    for name, code, also, _ in rows:
        assert kinds[name].code == code
        parents = {parent.__name__ for parent in kinds[name].__bases__} - {"EsccsError"}
        assert parents == set(re.findall(r"`(\w+)`", also)), name


def test_the_http_status_of_errors_is_that_of_the_service():
    pytest.importorskip("fastapi")
    from esccs_edge.serve.app import _status_of

    for name, status in re.findall(r"^\| `(\w+)` \| `[\w-]+` \|.*\| (\d+) \|$", PAGE, re.MULTILINE):
        assert _status_of(getattr(errors, name)("what"))[0] == int(status), name


def test_the_table_of_environment_variables_is_complete():
    package = Path(__file__).parent.parent / "esccs_edge"
    used = set()
    for path in package.rglob("*.py"):
        used |= set(re.findall(r"(?<![\w.])ESCCS_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8")))
    assert used == set(re.findall(r"^\| `(ESCCS_\w+)` \|", PAGE, re.MULTILINE))


def test_every_remedy_is_named():
    assert all(f"`{remedy.value}`" in PAGE for remedy in Remedy if remedy.value)
