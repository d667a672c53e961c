"""What each row is told, from the code, and that only rows told the same are ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esccs_edge.training.comparison.contest import Contest
from esccs_edge.training.comparison.ranking import contest
from esccs_edge.training.comparison.summary import CONTESTS, summarize
from esccs_edge.training.methods import AS_DRAWN, HEADLINE, METHODS
from esccs_edge.training.methods.told import differences, require_alike, told, told_table
from esccs_edge.training.options_file import options_from, read_options

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
BENCHMARKS = ("b1-ombria", "b2-eurosat", "b3-sen12ms", "b4-real")


def told_of(options: Any, names=tuple(METHODS)):
    return {name: told(METHODS[name].gifts, options) for name in names}


@pytest.mark.parametrize("config", BENCHMARKS)
@pytest.mark.parametrize("rows", [HEADLINE, AS_DRAWN])
def test_the_rows_of_a_contest_are_told_the_same_in_every_benchmark(config, rows):
    options: Any = read_options(CONFIGS / f"{config}.toml")
    require_alike(told_of(options, rows))


@pytest.mark.parametrize("config", BENCHMARKS)
def test_no_row_of_a_contest_sees_the_target_clear_or_labeled_or_joins_its_dates(config):
    options: Any = read_options(CONFIGS / f"{config}.toml")
    assert options.clouds.clear_share == 0 and options.distillation.teacher_views == "each"
    for name in {*HEADLINE, *AS_DRAWN}:
        row = told(METHODS[name].gifts, options)
        assert (row.labels, row.clear_images, row.views) == ("source", "source", "each")


@pytest.mark.parametrize(
    ("other", "unlike"),
    [
        ("kd-s", "clouds"),
        ("spl", "clouds"),
        ("esccs-paper", "clouds"),
        ("esccs-archive", "clear_images"),
        ("esccs-branches", "epochs"),
        ("supervised-fusion", "labels"),
        ("clear-teacher", "clear_images"),
    ],
)
def test_a_comparison_with_a_row_that_is_told_something_else_is_refused(other, unlike):
    rows = told_of(options_from({}))
    with pytest.raises(ValueError, match=f"esccs and {other} are not told the same.*{unlike}"):
        Contest.of("esccs", ["esccs", "qmf-cloud-aware", other], rows)


def test_a_summary_refuses_a_headline_whose_rows_were_told_unlike_things(monkeypatch):
    rows = [{"method": name} for name in ("esccs", "kd-s")]
    monkeypatch.setitem(CONTESTS, "headline", ("esccs", ("kd-s", "esccs")))
    with pytest.raises(ValueError, match="esccs and kd-s are not told the same"):
        summarize(rows, {}, {}, told_of(options_from({})))


def test_a_row_that_is_not_reproduced_is_in_no_contest():
    rows = told_of(options_from({}))
    found = contest("esccs-paper", ("esccs-paper", "cycit", "kdhn"), rows)
    assert found.rivals == ("kdhn",)
    assert [name for name in METHODS if not METHODS[name].reproduced] == ["cycit"]


def test_joined_views_and_the_warm_start_of_a_run_reach_the_rows_that_are_given_them():
    document = {"warm_start": True, "distillation": {"teacher_views": "all"}}
    sizes = {"width": 24, "blocks": [1, 1, 1]}
    document |= {"auxiliary": {"sar": sizes}, "student": {"sar": sizes}}
    rows = told_of(options_from(document))
    assert differences(rows["kdhn"], rows["kdhn-cloud-aware"]) == [
        "clouds", "views", "start", "drop_share",
    ]  # fmt: skip
    assert differences(rows["esccs"], rows["kdhn-cloud-aware"]) == []
    assert (rows["esccs"].views, rows["esccs"].start) == ("joined", "source model")


def test_rehearsal_reaches_every_row_that_learns_on_the_unlabeled_target():
    rows = told_of(options_from({"target_share": 0.5, "rehearsal": 0.5}))
    without = {name for name, row in rows.items() if not row.rehearsal}
    assert without == {"source-only", "spl", "cycit", "supervised-fusion", "clear-teacher"}
    assert not without & {*HEADLINE, *AS_DRAWN}


def test_rows_that_are_told_the_same_share_a_line_of_the_table():
    rows = told_of(options_from({}), ("kd-s", "kdhn", "qmf-cloud-aware", "esccs"))
    lines = told_table(rows, {"kd-s": 2, "kdhn": 2, "qmf-cloud-aware": 5, "esccs": 5}).splitlines()
    assert lines[2:] == [
        "| source | source | nothing | each | random | 0.0 | 0.0 | 180 | 0 | 2 | kd-s, kdhn |",
        "| source | source | estimate | each | random | 0.2 | 0.0 | 180 | 0 | 5 "
        "| qmf-cloud-aware, esccs |",
    ]


def test_the_page_states_what_the_code_tells_each_row():
    options: Any = read_options(CONFIGS / "b1-ombria.toml")
    rows = {n: told(m.gifts, options, 2 if m.gifts.stages else 0) for n, m in METHODS.items()}
    table = told_table(rows, {name: 5 if name in HEADLINE else 2 for name in METHODS})
    page = (CONFIGS.parents[1] / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert table in page, f"docs/comparison.md should hold:\n{table}"
