"""The temperature that makes a network's confidence honest (Guo et al., 2017)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Temperatures tried; the best lies inside for any sane network.
LOWEST, HIGHEST = 0.2, 10.0


def fit_temperature(
    log_probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> float:
    """Return the T that minimizes the negative log-likelihood of ``softmax(logits / T)``.

    Args:
        log_probabilities: ``(N, K)`` logits or log-probabilities (the same up to a constant).
        labels: ``(N,)`` true classes.
    """
    low, high = np.log(LOWEST), np.log(HIGHEST)
    for _ in range(6):  # each round narrows the interval to a fifth
        tried = np.linspace(low, high, 11)
        losses = [_nll(log_probabilities / np.exp(t), labels) for t in tried]
        best = int(np.argmin(losses))
        low, high = tried[max(best - 1, 0)], tried[min(best + 1, 10)]
    return float(np.exp((low + high) / 2))


def _nll(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(axis=1))
    return float((log_total - shifted[np.arange(len(labels)), labels]).mean())
