"""How good all networks of a run of scene classification are on its held-out pairs."""

from __future__ import annotations

from typing import Any

from ..samples.samples import CloudySamples
from ..stages.scene_classification.run import Networks, SceneRun
from .fold_report import read_report
from .judge import Predictor, has_labels, held_out, judge, simulated_parts
from .predictors import bimodal, unimodal


def score_networks(run: SceneRun, networks: Networks) -> tuple[dict[str, Any], float]:
    """Fit the student's temperature on the validation split and judge all networks.

    Returns:
        ``{split: {network: {overall, by_cloud}}, "pseudo_labels": {...}, "simulated": [...]}``,
        the last as `evaluate` gives it, and the temperature; the student has no calibration error
        on the validation split, which fitted that. Where there is no labeled validation
        pair the temperature is that of the cross-validation, whose report then stands in the
        metrics, or of the options.
    """
    temperature = run.options.temperature
    metrics: dict[str, Any] = {
        "pseudo_labels": networks.supervision.report,
        "simulated": simulated_parts(run),
    }
    if run.options.cross_validation:
        metrics["cross_validation"] = read_report(run.options.cross_validation)
        temperature = metrics["cross_validation"]["temperature"]
    for split in ("val", "test"):
        if not has_labels(run, split):
            continue
        if split == "val":
            both = [*held_out(run, split, clear=True), *held_out(run, split)]
            temperature = judge(bimodal(networks.student), both).temperature()
        metrics[split] = _scores(run, networks, split, temperature)
    return metrics, temperature


def _scores(run: SceneRun, networks: Networks, split: str, temperature: float) -> dict[str, Any]:
    clear, cloudy = held_out(run, split, clear=True), held_out(run, split)
    teacher, student = networks.supervision.teacher, networks.student
    optical, sar = networks.optical_auxiliary, networks.sar_auxiliary
    optical_only = bimodal(student, use_sar=False)
    asked: dict[str, tuple[Predictor, list[CloudySamples]]] = {
        "teacher on clear images": (unimodal(teacher, "clear"), clear),
        "source-only": (unimodal(teacher, "optical"), cloudy),
        "optical auxiliary on clear images": (unimodal(optical, "optical"), clear),
        "optical auxiliary": (unimodal(optical, "optical"), cloudy),
        "SAR auxiliary": (unimodal(sar, "sar"), clear),
        "student on clear images": (bimodal(student), clear),
        "student": (bimodal(student), cloudy),
        "student, optical only, on clear images": (optical_only, clear),
        "student, optical only": (optical_only, cloudy),
        "student, SAR only": (bimodal(student, use_optical=False), clear),
    }
    reports = {}
    for name, (predict, parts) in asked.items():
        judged = judge(predict, parts)
        if name.startswith("student"):
            judged = judged.tempered(temperature)
        reports[name] = judged.report()
        if name.startswith("student") and split == "val":
            reports[name] = _without_calibration(reports[name])
    return reports


def _without_calibration(report: dict[str, Any]) -> dict[str, Any]:
    def kept(scores: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in scores.items() if not name.startswith("ece")}

    by_cloud = {name: kept(scores) for name, scores in report["by_cloud"].items()}
    return {"overall": kept(report["overall"]), "by_cloud": by_cloud}
