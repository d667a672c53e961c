"""Multi-look SAR speckle as it stands in terrain-corrected products: correlated Gamma noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Floats


def speckled(
    intensity: Floats, rng: np.random.Generator, looks: float, blur: tuple[float, float, float]
) -> npt.NDArray[np.float32]:
    """Return the intensity as seen through speckle and the resolution of the instrument.

    The intensity is multiplied by independent Gamma noise of mean 1, and the product averaged over
    5 x 5 neighbors with fixed weights: a resolution of 20 m on pixels of 10 m and the interpolation
    of terrain correction blur ground and speckle alike. The average of independent values has
    ``sum(weight ** 2)`` times their variance, so the noise is drawn with that many times fewer
    looks.

    Args:
        intensity: Linear ``(..., H, W)`` float32.
        rng: Source of randomness.
        looks: Equivalent number of looks, mean squared over variance of a flat area.
        blur: Weights of a pixel, its neighbors and their neighbors, in rows as in columns.
    """
    total = blur[0] + 2 * blur[1] + 2 * blur[2]
    center, near, far = (np.float32(weight / total) for weight in blur)
    drawn = looks * float(center**2 + 2 * near**2 + 2 * far**2) ** 2
    margin = [(0, 0)] * (intensity.ndim - 2) + [(2, 2), (2, 2)]
    seen = np.pad(intensity, margin, mode="edge")
    seen *= rng.standard_gamma(drawn, seen.shape, np.float32)
    seen *= np.float32(1 / drawn)
    rows = center * seen[..., 2:-2, :]
    rows += near * (seen[..., 1:-3, :] + seen[..., 3:-1, :])
    rows += far * (seen[..., :-4, :] + seen[..., 4:, :])
    blurred = center * rows[..., 2:-2]
    blurred += near * (rows[..., 1:-3] + rows[..., 3:-1])
    blurred += far * (rows[..., :-4] + rows[..., 4:])
    return np.asarray(blurred, np.float32)
