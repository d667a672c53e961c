"""Methods of semantic segmentation side by side: same data and clouds, one table, kept runs."""

from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import pytest
from support.tiny_maps import CLASSES, tiny_map_document, tiny_map_index

from esccs_edge.errors import InputError
from esccs_edge.training.comparison.map_ranking import RecordedCounts, miou_lead
from esccs_edge.training.comparison.map_summary import CONTESTS, summarize
from esccs_edge.training.comparison.run import compare
from esccs_edge.training.judging.map_metrics import map_measures
from esccs_edge.training.methods.maps import METHODS
from esccs_edge.training.methods.maps.told import map_told
from esccs_edge.training.options_file import options_from


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(tiny_map_index(tmp_path_factory.mktemp("maps") / "data", count=12))


def options(epochs: int = 1, **changes):
    return options_from(tiny_map_document("", "", epochs, **changes))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "all"
    return compare(data, data, out, seeds=1, options=options())


def test_every_method_runs_and_has_a_row(finished):
    assert [row["method"] for row in finished.rows] == list(METHODS)
    with open(finished.folder / "table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(0 <= float(row["miou_mean"]) <= 1 for row in rows)
    assert all(row["ours_gain_all_low"] for row in rows if row["method"] != "ours")
    table = (finished.folder / "table.md").read_text()
    assert "Simulated in the judged images: clouds." in table
    assert all(f"| {name} |" in table for name in METHODS)
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert set(summary) == {"headline", "as_drawn", "plain", "core_hours"}
    assert list(summary["headline"]["rivals"]) == ["cloudseg-equipped"]
    assert list(summary["as_drawn"]["rivals"]) == ["removal-then-segmentation"]
    beside = summary["plain"]["sar-only"]
    assert beside["unlike"] == ["clear_images", "cloud_masks", "drop_share"]
    assert beside["cloudy"]["low"] <= beside["cloudy"]["value"] <= beside["cloudy"]["high"]
    assert min(summary["core_hours"].values()) > 0


def test_all_methods_are_judged_on_the_same_pixels(finished):
    counted = []
    for name in METHODS:
        with np.load(finished.folder / "runs" / f"{name}-0.npz") as stored:
            counted.append(stored["counts"].sum(axis=-1))
            assert stored["places"].tolist() == ["place-11", "place-3", "place-7"]
    assert all((other == counted[0]).all() for other in counted)
    assert counted[0].sum() == 3 * 5 * 62 * 64


def test_methods_that_read_one_modality_do_not_see_the_other(finished):
    runs = json.loads((finished.folder / "runs.json").read_text())
    by_name = {run["method"]: run["metrics"] for run in runs}
    by_cloud = by_name["sar-only"]["by_cloud"]
    # The same SAR at every cover: what is answered does not depend on the clouds.
    assert len({part["all"]["miou"] for part in by_cloud.values()}) == 1
    assert len({part["all"]["miou"] for part in by_name["early-fusion"]["by_cloud"].values()}) > 1


def test_finished_runs_are_kept_and_another_comparison_is_refused(finished, data, monkeypatch):
    from esccs_edge.training.comparison.map_runs import MapSeedRuns

    monkeypatch.setattr(MapSeedRuns, "run", lambda *_: pytest.fail("a finished run ran again"))
    again = compare(data, data, finished.folder, seeds=1, resume=True, options=options())
    assert again.rows == finished.rows
    with pytest.raises(InputError, match="other data or options: .*student"):
        compare(data, data, finished.folder, seeds=1, resume=True, options=options(2))
    with pytest.raises(InputError, match="already holds a comparison"):
        compare(data, data, finished.folder, seeds=1, options=options())


def test_what_does_not_fit_is_refused_before_any_work(data, tmp_path):
    asked: list[tuple[dict[str, Any], str]] = [
        ({"methods": ["esccs"]}, "method is 'esccs', expected among headline, .* clear-teacher"),
        ({"judge": "judge.npz"}, "a judge was given, and segmentation is judged by label maps"),
        ({"trials": 2}, "2 trials, expected 0: nothing is tried for methods of segmentation"),
    ]
    for words, message in asked:
        with pytest.raises(InputError, match=message):
            compare(data, data, tmp_path / "x", options=options(), **words)
    other = tiny_map_index(tmp_path / "other")
    with pytest.raises(InputError, match="group 'place-3' is in the training and in the judged"):
        (tmp_path / "other" / "index.csv").write_text(
            other.read_text().replace(",place-0,train", ",place-3,train").replace(
                ",place-3,test", ",place-30,test")
        )  # fmt: skip
        compare(str(other), data, tmp_path / "x", options=options())
    assert not (tmp_path / "x").exists()


def test_rows_are_told_what_their_code_is_given(finished):
    runs = json.loads((finished.folder / "runs.json").read_text())
    told = {run["method"]: run["told"] for run in runs}
    assert told["ours"] == told["cloudseg-equipped"] == {
        "clear_images": "training", "cloud_masks": "simulator", "drop_share": 0.2, "epochs": 1,
        "trials": 0,
    }  # fmt: skip
    assert told["cloudseg"] == told["ours"] | {"drop_share": 0.0}
    assert told["late-fusion"] == told["cloudseg-neither"] == told["ours"] | {
        "clear_images": "none", "cloud_masks": "none", "drop_share": 0.0,
    }  # fmt: skip
    assert told["clear-teacher"]["epochs"] == 0
    written = (finished.folder / "told.md").read_text()
    assert "| training | simulator | 0.2 | 1 | 0 | 1 | cloudseg-equipped, ours |" in written


def test_rows_that_are_told_unlike_things_are_not_ranked(monkeypatch):
    told = {name: map_told(METHODS[name].gifts, options()) for name in METHODS}
    monkeypatch.setitem(CONTESTS, "headline", ("ours", ("late-fusion", "ours")))
    with pytest.raises(ValueError, match="ours and late-fusion are not told the same"):
        summarize({}, told, ("late-fusion", "ours"))


def counted(matrices) -> RecordedCounts:
    """Confusion matrices ``(places, K, K + 1)`` of clear pixels in the first bin."""
    counts = np.zeros((len(matrices), 6, 3, *matrices.shape[1:]))
    counts[:, 0, 0] = matrices
    return RecordedCounts(tuple(f"place-{n}" for n in range(len(matrices))), counts)


def test_the_lead_in_miou_is_that_of_places_drawn_with_repetition():
    rng = np.random.default_rng(0)
    first = rng.integers(1, 50, (2, 20, 3, 4))
    first[..., range(3), range(3)] += 60
    second = first.copy()
    second[..., 0, 0] -= 30
    second[..., 0, 1] += 30
    runs = {"a": [counted(part) for part in first], "b": [counted(part) for part in second]}

    def difference(seed, places):
        parts = [map_measures(m[seed][places].sum(axis=0))["miou"] for m in (first, second)]
        return parts[0] - parts[1]

    found = miou_lead(runs, "a", "b")
    assert found is not None and found.value == pytest.approx(
        np.mean([difference(seed, np.arange(20)) for seed in range(2)])
    )
    drawn = []
    for _ in range(1000):
        places = rng.integers(20, size=20)
        drawn.append(np.mean([difference(seed, places) for seed in rng.integers(2, size=2)]))
    ends = np.quantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(ends, abs=0.01)
    same = miou_lead({"a": runs["a"], "b": runs["a"]}, "a", "b")
    assert same is not None and (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert miou_lead(runs, "a", "b", "cloudy") is None
    fewer = miou_lead({"a": runs["a"], "b": runs["b"][:1]}, "a", "b")
    assert fewer is not None and fewer.value == pytest.approx(difference(0, np.arange(20)))


def test_the_command_takes_the_name_of_the_task(data, tmp_path):
    from support.cli_parts import run_json

    config = tmp_path / "run.toml"
    config.write_text(
        f"classes = {json.dumps(CLASSES)}\ncrop = 64\nthreads = 1\n"
        "[network]\nwidths = [4, 6, 8, 8]\ndecoder = [8, 6, 6, 4, 4]\n"
        "[teacher]\nschedule = { epochs = 1, batch_size = 2 }\n"
        "[student]\nschedule = { epochs = 1, batch_size = 2 }\n"
    )
    words = ("--task", "semantic-segmentation", "--config", config, "--methods", "sar-only,ours",
             "--seeds", 2, "--other-seeds", 1)  # fmt: skip
    found = run_json("compare", "--train", data, "--test", data, "--out", tmp_path / "o", *words)
    assert [(row["method"], row["seeds"]) for row in found["rows"]] == [
        ("sar-only", 1),
        ("ours", 2),
    ]
