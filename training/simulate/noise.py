"""Random fields with power-law spectra: the raw material of simulated clouds and land surfaces."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Floats


@lru_cache(maxsize=8)
def _frequencies(height: int, width: int) -> tuple[Floats, Floats]:
    rows = np.fft.fftfreq(height).astype(np.float32)[:, None]
    columns = np.fft.rfftfreq(width).astype(np.float32)[None, :]
    return rows, columns


def power_law_field(
    height: int,
    width: int,
    slope: float,
    rng: np.random.Generator,
    *,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Floats:
    """Return a periodic Gaussian field whose power falls as ``frequency ** -slope``.

    All octaves are drawn at once in the Fourier domain. The field has mean 0 and standard
    deviation 1 over the whole array.

    Args:
        height: Rows.
        width: Columns; even.
        slope: Power-law exponent; about 3 for clouds, 2 for rough ground, 0 for white noise.
        rng: Source of randomness.
        stretch: How much longer than wide the structures are.
        angle: Direction of the stretch in radians.
    """
    rows, columns = _frequencies(height, width)
    if stretch == 1.0:
        squared = rows**2 + columns**2
    else:
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        along = (cosine * columns + sine * rows) * np.float32(stretch)
        squared = along**2 + (cosine * rows - sine * columns) ** 2
    squared[0, 0] = 1.0
    amplitude = squared ** np.float32(-slope / 4.0)
    amplitude[0, 0] = 0.0
    shape = (2, height, width // 2 + 1)
    real, imaginary = rng.standard_normal(shape, np.float32) * amplitude
    field = np.fft.irfft2(real + 1j * imaginary, s=(height, width)).astype(np.float32)
    return np.asarray(field / max(float(field.std()), 1e-12), np.float32)


def box_mean(field: Floats, radius: int) -> Floats:
    """Return the mean over a square of ``2 * radius + 1`` pixels of ``(..., H, W)``.

    Edges are replicated. Running sums are in double precision, so the cost does not depend on the
    radius.
    """
    width = 2 * radius + 1
    rows = _reach(field.shape[-2], radius)[:, None]
    columns = _reach(field.shape[-1], radius)
    total = field[..., rows, columns].astype(np.float64)
    total[..., 0, :] = 0.0
    total[..., 0] = 0.0
    np.cumsum(total, axis=-2, out=total)
    np.cumsum(total, axis=-1, out=total)
    box = total[..., width:, width:] - total[..., :-width, width:]
    box -= total[..., width:, :-width]
    box += total[..., :-width, :-width]
    box *= 1.0 / width**2
    return box.astype(np.float32)


@lru_cache(maxsize=32)
def _reach(size: int, radius: int) -> npt.NDArray[np.int64]:
    return np.clip(np.arange(-radius - 1, size + radius), 0, size - 1)
