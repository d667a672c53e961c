"""The examples of the documentation run, and each is listed on their page."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from esccs_edge import Classifier, EsccsError, example_pair

FOLDER = Path(__file__).parent.parent / "docs" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
#: What an example may need beyond the runtime.
EXTRA = ("torch", "xarray", "pandas")


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_runs(path, capsys):
    imported = re.findall(r"^import (\w+)", path.read_text(), re.MULTILINE)
    for package in set(EXTRA) & set(imported):
        pytest.importorskip(package)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


def test_the_loop_answers_in_order_and_refuses_one_pair():
    answered = runpy.run_path(str(FOLDER / "ground_station.py"))["answered"]
    pair = example_pair()
    patches = [(str(i), pair.optical[: 12 if i == 5 else 13], pair.sar) for i in range(40)]
    with Classifier(backend="cpu", queue_size=4) as classifier:
        found = list(answered(classifier, patches))
    assert [name for name, _ in found] == [str(i) for i in range(40)]
    assert [name for name, answer in found if isinstance(answer, EsccsError)] == ["5"]


def test_examples_are_listed():
    listed = set(re.findall(r"\]\((\w+\.py)\)", (FOLDER / "README.md").read_text()))
    assert listed == {path.name for path in EXAMPLES}
