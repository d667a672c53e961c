"""Training losses as pure functions, one value per sample.

Per sample, because the information regulation mechanism and the reliability of the teacher weight
each sample on its own; the stages take the mean.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

#: Keeps logarithms of gate weights finite; far below any weight that matters.
GATE_EPS = 1e-6


def soften(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``softmax(logits / temperature)`` over the classes, detached: a target, never a path."""
    return torch.softmax(logits.detach() / temperature, dim=1)


def distillation_loss(target: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(target || softmax(logits / T))`` per sample (Hinton et al., 2015).

    Args:
        target: ``(N, K)`` probabilities, already softened at the same temperature.
        logits: ``(N, K)`` of the network that learns.
        temperature: T; the factor T^2 keeps the gradient's size independent of it.

    Returns:
        ``(N,)``, at least 0, and 0 where both agree.
    """
    target = target.detach()
    log_student = torch.log_softmax(logits / temperature, dim=1)
    return temperature**2 * (torch.xlogy(target, target) - target * log_student).sum(dim=1)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy per sample; 0 where the label is -1 (unknown).

    Args:
        logits: ``(N, K)``.
        labels: ``(N,)`` int64 in ``-1..K-1``.
    """
    return functional.cross_entropy(logits, labels, ignore_index=-1, reduction="none")


def gate_loss(gate: Tensor, target: Tensor) -> Tensor:
    """``KL(target || gate)`` per sample; 0 where the target is 0 for both modalities.

    Args:
        gate: ``(N, 2)`` weights of the student, optical first.
        target: ``(N, 2)`` wanted weights; a row sums to 1 or is 0.
    """
    target = target.detach()
    log_gate = torch.log(gate.clamp_min(GATE_EPS))
    return (torch.xlogy(target, target) - target * log_gate).sum(dim=1)


def class_weights(labels: npt.NDArray[np.int64], classes: int) -> Tensor:
    """Return ``(K,)`` factors that make the classes count alike; absent classes get 1."""
    known = torch.as_tensor(labels)
    counts = torch.bincount(known[known >= 0], minlength=classes).float()
    mean = counts[counts > 0].mean()
    return torch.where(counts > 0, mean / counts.clamp_min(1), torch.ones_like(counts))
