"""With ``--json`` a failure too is one document on standard output; people read standard error."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
from support.cli_parts import run

from esccs_edge.cli import demo


def error_of(*arguments, code: int):
    """The document of a command that fails."""
    result = run(*arguments, "--json")
    assert result.exit_code == code
    document = json.loads(result.stdout)
    assert list(document) == ["error"]
    assert list(document["error"]) == ["code", "message", "found", "expected", "hint"]
    return document["error"], result.stderr


@pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
def test_a_refusal_says_what_was_found_and_expected(tmp_path):
    words = ("--data", "x.csv", "--out", tmp_path / "run", "--set", "folds.count=-1")
    error, said = error_of("train", *words, code=1)
    assert error["code"] == "input" and error["message"] in said
    assert (error["found"], error["expected"]) == ("folds: option 'count' is -1", "0 or more")


def test_a_hint_stands_apart_and_is_spelled_as_typed(tmp_path):
    error, said = error_of("inspect", tmp_path / "nothere", code=1)
    assert error["code"] == "artifact" and error["hint"] in said and error["expected"] is None


@pytest.mark.parametrize(
    "words",
    [("classify", "-"), ("classify", "a", "b", "--backend", "abacus"), ("classify", "-", "-"),
     ("map", "a", "b", "c", "--nonsense")],
)  # fmt: skip
def test_wrong_usage_is_a_document_too(words):
    error, said = error_of(*words, code=2)
    assert error["code"] == "usage" and error["message"].splitlines()[0] in said


def test_a_fault_of_ours_is_called_so(monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(demo.run, "callback", broken)
    error, _ = error_of("demo", code=1)
    assert error["code"] == "fault" and "KeyError" in error["message"]


def test_without_json_standard_output_stays_empty(tmp_path):
    result = run("inspect", tmp_path / "nothere")
    assert (result.exit_code, result.stdout) == (1, "")
