"""Pixel series in other runtimes: one short round in the suite, the rest by `series_speed`."""

from __future__ import annotations

import pytest

from esccs_edge import Bundle

pytest.importorskip("torch", reason="torch is one of the runtimes")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is one of the runtimes")

from benchmarks.series_speed import OURS, best_peer, compare, markdown  # noqa: E402

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def rows():
    return compare(Bundle.open("crop-series"), (1, 40), seconds=0.0, rounds=1)


def test_all_runtimes_answer_the_same_series(rows):
    forms = {f"{library}-{form}" for library in ("openvino", "onnxruntime") for form in
             ("int8", "fp32")}  # fmt: skip
    assert {row.peer for row in rows} == {OURS, "torch-eager", *forms}
    whole = {row.peer: row for row in rows if row.batch == 40}
    # The bundle in the package has no weights for torch, which runs drawn ones of the same sizes.
    assert all(whole[name].same >= 0.8 for name in (OURS, *forms))
    assert all(row.per_second > 0 for row in rows) and whole[OURS].times_ours == 1


def test_the_table_and_the_best_ratio_are_of_the_rows(rows):
    assert len(markdown(rows).splitlines()) == 2 + len(rows)
    best = best_peer(rows)
    for batch in (1, 40):
        others = [row.times_ours for row in rows if row.batch == batch and row.peer != OURS]
        assert best[batch] == min(others)
