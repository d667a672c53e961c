"""The page of faults names the rows and tests there are; results are those of its last run."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"

REPORT = """<testsuites><testsuite timestamp="2026-01-02T03:04:05">
<testcase classname="tests.folder.test_a" name="test_one[1]"/>
<testcase classname="tests.folder.test_a" name="test_one[2]"><skipped/></testcase>
<testcase classname="tests.folder.test_a" name="test_two[1]"><failure/></testcase>
<testcase classname="tests.folder.test_a" name="test_two[2]"/>
<testcase classname="tests.test_b" name="test_three"><skipped/></testcase>
</testsuite></testsuites>"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("reliability", DOCS / "reliability.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_results(page: str) -> str:
    table = re.sub(r"\| [^|]* \|$", "|", page, flags=re.MULTILINE)
    return re.sub(r"\d+ of these passed|run of [\d-]*", "", table)


def test_the_page_is_up_to_date_in_rows_and_tests(script):
    made = script.page(script.marked_tests(), {}, "")
    stored = (DOCS / "reliability.md").read_text(encoding="utf-8")
    assert without_results(stored) == without_results(made), "run docs/reliability.py"


def test_marks_are_rows_of_the_page_and_nearly_all_rows_have_one(script):
    proofs = script.marked_tests()
    assert list(script.ROWS) == list(range(1, 98))
    assert set(proofs) <= set(script.ROWS)
    assert len(proofs) >= 88


def test_no_failure_stands_on_the_page():
    assert "FAILED" not in (DOCS / "reliability.md").read_text(encoding="utf-8")


def test_a_test_passed_if_it_ran_and_no_case_of_it_failed(script, tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    told, day = script.outcomes([report])
    assert told == {
        "folder/test_a.py::test_one": "passed",
        "folder/test_a.py::test_two": "failed",
    }
    assert day == "2026-01-02"
    text = script.page({1: list(told), 2: ["test_b.py::test_three"]}, told, day)
    assert "passed<br>FAILED |" in text and "not run here |" in text and "not automated |" in text
