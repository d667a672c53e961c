"""Training, export and calibration for processes of their own, which import them by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from esccs_edge.calibration.quantize import quantize_student
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.export.to_onnx import export_student
from esccs_edge.training.options_file import options_from
from esccs_edge.training.run import train


def train_on(document: dict[str, Any]) -> None:
    """Train as the document says, or go on with that."""
    train(options_from(document), resume=True)


def export_and_calibrate(folder: Path, index: Path) -> None:
    """Bring a trained bundle to ONNX and INT8."""
    torch.set_num_threads(1)
    quantize_student(export_student(Bundle.open(folder)), index, seed=0)
