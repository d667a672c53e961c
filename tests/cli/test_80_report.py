"""The report: numbers that agree with `evaluate`, a page that needs nothing, a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.cli_parts import refused, run, run_json

from esccs_edge.contracts.bundle import Bundle

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="judging needs torch")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
NASTY = "<script>alert(1)</script>&\"'"


@pytest.fixture
def run_folder(bundle, tmp_path: Path) -> Path:
    """A run: a bundle and held-out pairs whose classes it knows."""
    from support.small_student import small_index

    folder = tmp_path / "run"
    bundle.copy(folder / "bundle")
    small_index(folder / "heldout", bundle.manifest, 48)
    return folder


class Page(HTMLParser):
    """What a page asks a browser for: elements, and every address in an attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def test_a_run_gets_a_page_whose_numbers_are_those_of_evaluate(run_folder):
    answer = run_json("report", run_folder, "--seconds", 0)
    page = run_folder / "report.html"
    assert answer["path"] == str(page) and page.is_file()
    judged = run_json("evaluate", run_folder / "bundle", run_folder / "heldout/index.csv")
    numbers = answer["numbers"]
    assert numbers["overall"] == judged["overall"]
    assert numbers["confusion"] == judged["confusion"]
    part = numbers["agreement"]["all"]
    assert part["value"] == pytest.approx(judged["overall"]["oa"])
    assert part["low"] <= part["value"] <= part["high"]
    for name, row in judged["by_cloud"].items():
        assert numbers["by_cloud"][name]["n"] == row["n"]
    assert sum(row["n"] for row in numbers["reliability"]) == numbers["n"]
    text = page.read_text(encoding="utf-8")
    assert f"{100 * judged['overall']['oa']:.1f} %" in text
    wrong = numbers["n"] - sum(row[k] for k, row in enumerate(judged["confusion"]))
    assert text.count("<figure>") == min(wrong, 8) and wrong


def test_the_page_fetches_and_runs_nothing(run_folder):
    run_json("report", run_folder, "--seconds", 0.01)
    text = (run_folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert page.addresses and all(a.startswith("data:image/png;base64,") for a in page.addresses)
    assert not page.handlers and "url(" not in text and "@import" not in text
    assert "default-src 'none'" in text
    assert "Latency on the machine" in text and "From raw pixels to answers; student" in text


def test_what_names_say_is_text_and_never_markup(bundle, tmp_path):
    named = bundle.manifest.evolve(
        name=NASTY, provenance={"data": {"name": NASTY}, "options": {"x": NASTY}}
    )
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    other = Bundle.create(tmp_path / "other", named, files)
    run_json("report", other.folder, "--seconds", 0, "--out", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text


def test_a_bundle_without_pairs_is_shown_without_accuracy(tmp_path):
    answer = run_json("report", "default", "--seconds", 0, "--out", tmp_path / "r.html")
    assert answer["numbers"] is None and "--data" in answer["missing"]
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Cross-validation" in text and "Real clouds and SAR" in text
    assert "Accuracy</span>" not in text


def test_a_run_that_holds_out_nothing_is_not_judged_on_training_pairs(run_folder):
    index = run_folder / "heldout" / "index.csv"
    index.write_text(index.read_text().replace(",test", ",val"))
    answer = run_json("report", run_folder, "--seconds", 0)
    assert answer["numbers"] is None and "holds out none as 'test'" in answer["missing"]


def test_what_is_no_bundle_is_refused_and_nothing_is_written(tmp_path):
    assert "no bundle folder" in refused(run("report", tmp_path / "nothing"))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_draws_it_without_a_complaint(run_folder):
    run_json("report", run_folder, "--seconds", 0)
    words = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        "--dump-dom", (run_folder / "report.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.count("<svg") == 3 and "</main>" in done.stdout
    assert not re.findall(r"CONSOLE.*", done.stderr)
