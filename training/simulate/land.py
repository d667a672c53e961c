"""Geometry of simulated landscapes: parcels, regions, rivers and roads on a pixel grid.

Lengths are in pixels of 10 m. Every function is vectorized over the whole scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.types import Floats

from .noise import power_law_field

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Axes:
    """Coordinates along (``u``) and across (``v``) the local direction of fields and streets."""

    u: Floats
    v: Floats


@dataclass(frozen=True)
class Parcels:
    """A division of the plane.

    Attributes:
        ids: Number of the parcel of each pixel.
        border: Distance in pixels to the parcel's two leading edges.
    """

    ids: Ids
    border: Floats


def coordinates(size: int, rng: np.random.Generator, warp: float) -> tuple[Floats, Floats]:
    """Return rows and columns ``(size, size)``, bent smoothly by about ``warp`` pixels."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    bend = [power_law_field(size, size + size % 2, 3.6, rng)[:, :size] for _ in range(2)]
    return rows + np.float32(warp) * bend[0], columns + np.float32(warp) * bend[1]


def regions(
    rows: Floats, columns: Floats, spacing: float, rng: np.random.Generator
) -> tuple[Ids, npt.NDArray[np.float32]]:
    """Divide the scene into cells about ``spacing`` wide.

    Returns:
        The cell of each pixel and the cells' centers ``(N, 2)``.
    """
    size = len(rows)
    steps = max(2, round(size / spacing))
    grid = (np.mgrid[:steps, :steps].reshape(2, -1).T + 0.5) * (size / steps)
    centers = (grid + rng.uniform(-0.28, 0.28, grid.shape) * (size / steps)).astype(np.float32)
    nearest = np.zeros(rows.shape, np.int64)
    best = np.full(rows.shape, np.inf, np.float32)
    for number, (row, column) in enumerate(centers):
        distance = (rows - row) ** 2 + (columns - column) ** 2
        closer = distance < best
        nearest[closer] = number
        best[closer] = distance[closer]
    return nearest, centers


def local_axes(cells: Ids, rng: np.random.Generator) -> Axes:
    """Give each region of ``cells`` ``(H, W)`` its own direction."""
    rows, columns = np.ogrid[: cells.shape[0], : cells.shape[1]]
    angles = rng.uniform(0, np.pi, int(cells.max()) + 1).astype(np.float32)
    cosine, sine = np.cos(angles)[cells], np.sin(angles)[cells]
    along, across = cosine * columns + sine * rows, cosine * rows - sine * columns
    return Axes(np.asarray(along, np.float32), np.asarray(across, np.float32))


def parcels(axes: Axes, width: float, length: float, rng: np.random.Generator) -> Parcels:
    """Cut strips about ``width`` wide along u, and each strip into pieces about ``length`` long."""
    strip, strip_edge = _cut(axes.u, width, rng)
    offset = rng.uniform(0, 4 * length, 997).astype(np.float32)
    piece, piece_edge = _cut(axes.v + offset[strip % 997], length, rng)
    return Parcels(strip * 100003 + piece, np.minimum(strip_edge, piece_edge))


def _cut(along: Floats, width: float, rng: np.random.Generator) -> tuple[Ids, Floats]:
    start, stop = float(along.min()), float(along.max())
    count = int((stop - start) / width * 1.5) + 4
    edges = (start - 1 + np.cumsum(rng.uniform(0.6, 1.4, count)) * width).astype(np.float32)
    edges[0] = start - 1
    place = np.searchsorted(edges, along, side="right") - 1
    return place, along - edges[place]


def chosen(ids: Ids, choices: int, rng: np.random.Generator, shares: Any = None) -> Ids:
    """Draw one of ``choices`` for each parcel; equal parcels get equal choices."""
    table = rng.choice(choices, 4099, p=shares)
    return np.asarray(table[ids % 4099], np.int64)


def path_distance(
    rows: Floats, columns: Floats, start: float, angle: float, bends: Floats
) -> Floats:
    """Signed distance from a winding line.

    The line runs at ``angle`` through the point ``start`` (share of the size) on the main
    diagonal; ``bends`` holds its sideways shift for each pixel of length.
    """
    size = len(rows)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = cosine * (columns - start * size) + sine * (rows - start * size)
    across = cosine * (rows - start * size) - sine * (columns - start * size)
    place = np.clip((along + size).astype(np.int64), 0, len(bends) - 1)
    return across - bends[place]


def winding(length: int, sway: float, wavelength: float, rng: np.random.Generator) -> Floats:
    """Sideways shift in pixels along a line of ``length`` pixels: three slow waves."""
    place = np.arange(length, dtype=np.float32)
    shift = np.zeros(length, np.float32)
    for wave in (1.0, 0.45, 0.22):
        phase = rng.uniform(0, 2 * np.pi)
        shift += wave * np.sin(2 * np.pi * place / (wavelength * wave) + phase)
    return (shift * sway / 1.5).astype(np.float32)
