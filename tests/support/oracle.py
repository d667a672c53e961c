"""Slow, obvious twins of everything that was made fast. Float64 NumPy, one formula per function."""

from __future__ import annotations

import numpy as np

from esccs_edge.contracts.modality import ModalitySpec


def preprocess(pixels: np.ndarray, spec: ModalitySpec):
    """Return normalized float64 ``(C, H, W)`` and a dict of the statistics."""
    stored = pixels.astype(np.float64)
    is_dn = pixels.dtype.kind in "iu"
    values = (stored + spec.dn_offset) * spec.dn_scale if is_dn else stored
    finite = np.isfinite(stored).all(axis=0)
    absent = np.zeros_like(finite) if spec.nodata is None else (stored == spec.nodata).all(axis=0)
    valid = finite & ~absent
    if spec.is_linear:
        with np.errstate(invalid="ignore"):
            values = 10 * np.log10(np.maximum(values, 1e-5))
    low, high = spec.clip
    mean = np.reshape(spec.mean, (-1, 1, 1))
    std = np.reshape(spec.std, (-1, 1, 1))
    normalized = np.where(valid, (np.clip(values, low, high) - mean) / std, 0.0)
    seen = values[:, valid]
    stats = {
        "pixels": valid.size,
        "valid": int(valid.sum()),
        "nonfinite": int((~finite).sum()),
        "below": int((seen < np.float32(low)).sum()),
        "above": int((seen > np.float32(high)).sum()),
        "minimum": seen.min() if seen.size else np.nan,
        "maximum": seen.max() if seen.size else np.nan,
        "mean": seen.mean() if seen.size else np.nan,
    }
    return normalized, stats


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    scaled = logits.astype(np.float64) / temperature
    exponent = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)
