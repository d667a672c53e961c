"""Pixels that ask much of the preprocessing kernels, and how near their counts must come."""

from __future__ import annotations

import numpy as np

#: Kernels sum in another order than the CPU module.
MEAN_RTOL = 1e-5


def awkward_patch(dtype, height, width, seed, channels):
    rng = np.random.default_rng(seed)
    shape = (channels, height, width)
    if dtype == "float32":
        image = rng.normal(0.3, 0.6, shape).astype(np.float32)
        image[rng.uniform(size=shape) < 0.01] = rng.choice([np.nan, np.inf, -np.inf, 1e30])
    else:
        limits = np.iinfo(dtype)
        image = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    image[:, rng.uniform(size=(height, width)) < 0.1] = 0
    return image


def assert_stats(mine, theirs, *, canceling=0.0):
    """Compare what was seen; values of both signs may cancel by a share of the largest of them."""
    assert (mine.pixels, mine.valid, mine.nonfinite) == (
        theirs.pixels,
        theirs.valid,
        theirs.nonfinite,
    )
    assert (mine.below, mine.above) == (theirs.below, theirs.above)
    np.testing.assert_array_equal([mine.minimum, mine.maximum], [theirs.minimum, theirs.maximum])
    largest = np.nanmax(np.abs([theirs.minimum, theirs.maximum, 0.0]))
    np.testing.assert_allclose(mine.mean, theirs.mean, rtol=MEAN_RTOL, atol=canceling * largest)
