"""Multi-look SAR speckle: Gamma noise with a stated equivalent number of looks (ENL)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Equivalent number of looks of Sentinel-1 GRD high-resolution IW products (ESA: 4.4).
GRD_IW_LOOKS = 4.4
#: Weight of each neighbor in a row of three; neighboring GRD pixels are lightly correlated.
NEIGHBOR_WEIGHT = 0.12


def speckle(
    shape: tuple[int, ...], rng: np.random.Generator, looks: float = GRD_IW_LOOKS
) -> npt.NDArray[np.float32]:
    """Return multiplicative intensity noise of mean 1 and variance ``1 / looks``.

    Independent Gamma noise is averaged over 3 x 3 neighbors with fixed weights. The average of
    independent values has ``sum(weight ** 2)`` times their variance, so the noise is drawn with
    that many times fewer looks.

    Args:
        shape: ``(..., H, W)``.
        rng: Source of randomness.
        looks: Equivalent number of looks, mean squared over variance of a flat area.
    """
    side, center = np.float32(NEIGHBOR_WEIGHT), np.float32(1 - 2 * NEIGHBOR_WEIGHT)
    shrink = float(center**2 + 2 * side**2) ** 2
    drawn = looks * shrink
    padded = (*shape[:-2], shape[-2] + 2, shape[-1] + 2)
    noise = rng.standard_gamma(drawn, padded, np.float32) / np.float32(drawn)
    rows = center * noise[..., 1:-1, :] + side * (noise[..., :-2, :] + noise[..., 2:, :])
    return np.asarray(
        center * rows[..., 1:-1] + side * (rows[..., :-2] + rows[..., 2:]), np.float32
    )
