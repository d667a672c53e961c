"""A segmentation student is calibrated: strata of class and cloud, and mIoU decides."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter

import pytest
from support.small_segmenter import calibrated_segmenter, exported_segmenter, segmenter_index

from esccs_edge.calibration.budget import MAP_BUDGET, Budget
from esccs_edge.calibration.quantize import quantize_student
from esccs_edge.calibration.report import report_as_table
from esccs_edge.errors import ArtifactError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return calibrated_segmenter(tmp_path_factory.mktemp("segmenter") / "bundle")


def test_int8_keeps_miou_within_half_a_point(bundle):
    report = json.loads(bundle.read("calibration.json"))
    assert (
        report["measure"] == "miou" and report["budget"]["max_loss"] == MAP_BUDGET.max_loss == 0.5
    )
    scores = {name: report[name]["overall"]["miou"] for name in ("fp32", "int8")}
    assert scores == bundle.manifest.quantization["miou"] and min(scores.values()) > 0.6
    loss = 100 * (scores["fp32"] - scores["int8"])
    assert report["miou_loss_points"] == pytest.approx(loss, abs=1e-3)
    assert loss <= 0.5 + report["loss_standard_error_points"]
    assert bundle.manifest.quantization["label_agreement"] > 0.98
    table = report_as_table(report)
    assert "mIoU, %" in table and "balanced" not in table


def test_gate_and_head_stay_float(bundle):
    assert bundle.manifest.quantization["float_nodes"] == ["gate", "head"]


def test_pairs_are_drawn_by_class_and_cloud_share(bundle):
    rows = list(csv.DictReader(io.StringIO(bundle.read("calibration-pairs.csv").decode())))
    for purpose in ("calibration", "held-out"):
        part = [row for row in rows if row["purpose"] == purpose]
        strata = Counter((row["label"], row["cloud_bin"]) for row in part)
        assert len({label for label, _ in strata}) == 4
        assert {name for _, name in strata} == {"0-20", "20-40", "40-60", "60-80", "80-100"} - {
            "80-100"
        }
    assert all(row["target_sha256"] for row in rows)


def test_a_cost_beyond_the_budget_is_refused_in_points_of_miou(tmp_path):
    exported = exported_segmenter(tmp_path / "bundle")
    index = segmenter_index(tmp_path / "pairs", exported.manifest)
    with pytest.raises(ArtifactError, match="points of mIoU and keeps the label"):
        quantize_student(exported, index, methods=("max",), budget=Budget(0.5, min_agreement=1.01))
    assert not (exported.folder / "student.int8.onnx").exists()


def test_a_segmentation_student_can_be_fine_tuned(tmp_path):
    exported = exported_segmenter(tmp_path / "bundle")
    index = segmenter_index(tmp_path / "pairs", exported.manifest)
    budget = Budget(max_loss=-100.0, min_agreement=0.0)
    with pytest.raises(ArtifactError, match="'finetune'"):  # learned, and judged, before refused
        quantize_student(exported, index, methods=("max",), budget=budget, finetune_epochs=1)
