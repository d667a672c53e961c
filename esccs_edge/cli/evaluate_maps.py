"""``esccs-edge evaluate`` of a segmentation: IoU by cloud cover and sky."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..contracts.bundle import Bundle
from .progress import Progress
from .shell import CommandResult

#: Column -> pixels and measure.
COLUMNS = {
    "mIoU": ("all", "miou"),
    "clear": ("clear", "miou"),
    "cloudy": ("cloudy", "miou"),
    "OA": ("all", "oa"),
    "class acc.": ("all", "mean_accuracy"),
    "fwIoU": ("all", "fwiou"),
    "pixels": ("all", "pixels"),
    "failed": ("all", "failed"),
}


def evaluate_maps(
    opened: Bundle,
    index: str,
    where: Mapping[str, Any],
    *,
    clouds: tuple[int, ...],
    split: str,
    only: Literal["optical", "sar"] | None,
    named: Mapping[str, str],
) -> CommandResult:
    """Judge a bundle on images with label maps; see the command.

    Args:
        opened: The bundle.
        index: Its images.
        where: Backend, precision, device and flavor, as `open_model` takes them.
        clouds: Seeds of simulated clouds.
        split: Rows to judge.
        only: The modality that is not held back.
        named: Class of the model -> its name in the data; empty: the same.
    """
    from esccs_edge.training.datasets.maps import open_map_dataset
    from esccs_edge.training.judging.evaluate_maps import evaluate_maps as judged

    from ..any_task import open_model

    dataset = open_map_dataset(index, manifest=opened.manifest)
    with open_model(opened, **where) as model, Progress("evaluate") as progress:
        report = judged(
            model, opened.manifest, dataset, clouds_seeds=clouds, split=split, only=only,
            named=named, on_progress=progress,
        )  # fmt: skip
        used = model.backend.describe()
    report = {**report, "model": used["model"], "precision": used["precision"]}
    return CommandResult(report, _table(report))


def _table(report: Mapping[str, Any]) -> str:
    widths = {name: max(len(name), 6) + 2 for name in COLUMNS} | {"pixels": 12}
    lines = [f"{'cloud, %':>10}" + "".join(f"{name:>{width}}" for name, width in widths.items())]
    for name, row in {"overall": report["overall"], **report["by_cloud"]}.items():
        cells = (f"{_cell(row[pixels][measure]):>{widths[column]}}"
                 for column, (pixels, measure) in COLUMNS.items())  # fmt: skip
        lines.append(f"{name:>10}" + "".join(cells))
    by_class = ", ".join(
        f"{name} {_cell(value)}" for name, value in report["overall"]["all"]["iou"].items()
    )
    lines.append(f"  IoU: {by_class}")
    lines.append(f"  answered by {report['model']} in {report['precision']}")
    if report["simulated"]:
        lines.append(f"  simulated: {', '.join(report['simulated'])}")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    """No pixel of a kind has no measure."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
