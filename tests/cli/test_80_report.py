"""The report: numbers that agree with `evaluate`, a page that needs nothing, a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support.cli_parts import refused, run, run_json

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.example.series import example_series
from esccs_edge.rasters.pair_index import read_index

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


@pytest.fixture
def map_run(tmp_path: Path) -> Path:
    """A run of a segmentation: its bundle and held-out maps."""
    for package in ("onnx", "safetensors", "onnxruntime"):
        pytest.importorskip(package)
    from support.small_segmenter import exported_segmenter, segmenter_index

    bundle = exported_segmenter(tmp_path / "maps" / "bundle")
    segmenter_index(tmp_path / "maps" / "heldout", bundle.manifest)
    return tmp_path / "maps"


@pytest.fixture
def series_run(tmp_path: Path) -> Path:
    """A run of a series classification: the model of the package and its example, thrice."""
    from esccs_edge.training.datasets.stored_samples import StoredSample, write_samples

    folder = tmp_path / "series"
    bundle = Bundle.open("crop-series").copy(folder / "bundle")
    manifest, found = bundle.manifest, []
    assert manifest.sample.calendar is not None
    for part in range(3):  # whole, then with fewer dates
        for i, one in enumerate(example_series()):
            slots = manifest.sample.calendar.slots(one.dates)
            pixels = {}
            for name, stored in (("optical", one.optical), ("sar", one.sar)):
                placed = np.zeros((len(stored), manifest.sample.dates or 0, 1), stored.dtype)
                kept = np.arange(len(slots)) % 3 >= part
                placed[:, np.asarray(slots)[kept], 0] = stored[:, kept]
                pixels[name] = placed
            name = f"{part}-{i}"
            found.append(StoredSample(name, pixels, one.label, f"field {i}", "test"))
    write_samples(folder / "heldout", tuple(manifest.modalities), found)
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


def test_label_maps_are_judged_by_pixel_with_their_worst_windows(map_run):
    answer = run_json("report", map_run, "--seconds", 0)
    numbers = answer["numbers"]
    index = read_index(map_run / "heldout" / "index.csv", ("a", "b", "c", "d", "e"))
    assert (numbers["n"], numbers["unit"]) == (16, "pixels")
    assert numbers["counted"] == sum(
        int((index.load_target(i) >= 0).sum())  # type: ignore[operator]
        for i, row in enumerate(index.rows)
        if row.split == "test"
    )
    assert numbers["miou"]["low"] < numbers["miou"]["value"] < numbers["miou"]["high"]
    gates = [row["gate_optical"] for row in numbers["by_cloud"].values() if row["n"]]
    assert len(gates) >= 3 and gates == sorted(gates, reverse=True)
    text = (map_run / "report.html").read_text(encoding="utf-8")
    assert f"{100 * numbers['miou']['value']:.1f} %" in text and "Against cloud cover" in text
    page = Page(text)
    figures = text.count("<figure>")
    assert figures == 8 and len(page.addresses) == 4 * figures
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)


def test_series_are_judged_against_missing_dates(series_run):
    answer = run_json("report", series_run, "--seconds", 0)
    numbers = answer["numbers"]
    assert (numbers["n"], numbers["unit"], "miou" in numbers) == (18, "series", False)
    wrong = numbers["n"] - sum(row[k] for k, row in enumerate(numbers["confusion"]))
    text = (series_run / "report.html").read_text(encoding="utf-8")
    assert "Against missing optical dates" in text and "Series judged" in text
    assert text.count("<figure>") == min(wrong, 8)
    shown = [name for name, row in numbers["by_cloud"].items() if row["n"]]
    assert len(shown) >= 2 and "0-20" not in shown  # clouds hide half of the real dates


def test_clouds_are_simulated_for_scenes_alone(map_run):
    done = run("report", map_run, "--clouds", 7, "--seconds", 0)
    assert done.exit_code == 2 and "simulated for scenes only" in done.stderr


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
@pytest.mark.parametrize("folder", ["run_folder", "map_run", "series_run"])
def test_a_browser_draws_it_without_a_complaint(request, folder):
    run_folder = request.getfixturevalue(folder)
    run_json("report", run_folder, "--seconds", 0)
    words = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        "--dump-dom", (run_folder / "report.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.count("<svg") == 3 and "</main>" in done.stdout
    assert not re.findall(r"CONSOLE.*", done.stderr)
