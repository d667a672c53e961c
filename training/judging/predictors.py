"""How the networks of scene classification are asked for probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..stages.stage import Batch
from .judge import Predictor


def unimodal(net: nn.Module, image: str) -> Predictor:
    """Predict from one image of a pair: ``"clear"``, ``"optical"`` or ``"sar"``."""
    return lambda batch: torch.softmax(net(batch[image]), dim=1)


def bimodal(net: nn.Module, *, use_optical: bool = True, use_sar: bool = True) -> Predictor:
    """Predict with the student; a modality that is not used is handed in as absent."""
    used = torch.tensor([use_optical, use_sar], dtype=torch.float32)

    def predict(batch: Batch) -> Tensor:
        answers = net(
            batch["optical"] * used[0], batch["sar"] * used[1], batch["availability"] * used
        )
        return torch.softmax(answers[0], dim=1)

    return predict


def gates(net: nn.Module) -> Predictor:
    """Ask the student for its modality weights ``(N, 2)``, optical first, instead of classes."""
    return lambda batch: net(batch["optical"], batch["sar"], batch["availability"])[1]
