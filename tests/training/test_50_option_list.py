"""The list of all options: complete, and what the docs and the command line print."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from support.cli_parts import run_json

from esccs_edge.training.learning.tasks import learning_task
from esccs_edge.training.option_list import option_list
from esccs_edge.training.options_file import options_from

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = Path(__file__).parents[2] / "docs"
TASKS = (
    "scene-classification", "semantic-segmentation", "series-classification", "series-segmentation",
)  # fmt: skip


def leaves(document: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in document.items():
        nested = isinstance(value, dict)
        found |= leaves(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


@pytest.mark.parametrize("task", TASKS)
def test_every_option_is_listed_with_its_default_and_a_meaning(task):
    rows = option_list(learning_task(task).options_class)
    defaults = leaves(options_from({"task": task}).as_dict())
    assert [row.key for row in rows] == list(defaults)
    assert all(row.meaning and row.kind for row in rows)
    for row in rows:
        expected = defaults[row.key]
        read = tomllib.loads(f"value = {row.default}")["value"] if row.default else None
        assert read == (list(expected) if isinstance(expected, tuple) else expected)


def test_the_page_is_what_the_code_says():
    page = runpy.run_path(str(DOCS / "training_options.py"))["page"]()
    assert (DOCS / "training-options.md").read_text(encoding="utf-8") == page, (
        "run python docs/training_options.py"
    )


def test_the_command_prints_the_list_of_a_task():
    answer = run_json("train", "--list-options", "--task", "series-segmentation")
    assert answer["task"] == "series-segmentation"
    assert [row["key"] for row in answer["options"]][:2] == ["task", "data"]
