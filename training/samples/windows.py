"""Square windows of images whose label maps may be coarser.

A window starts and ends where a pixel of the label map does, so both are cut without resampling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError

from ..datasets.map_dataset import IGNORED, MapSample

#: Pixels of the image and of the label map that cover the same ground, such as 10 and 3.
Steps = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A window of one image.

    Attributes:
        row: First row.
        column: First column.
        size: Height and width.
        steps: See `Steps`.
        known: First row and column of the label map, counted in the window, that no window
            before this one has shown.
    """

    row: int
    column: int
    size: int
    steps: Steps
    known: tuple[int, int] = (0, 0)


def label_steps(sample: MapSample) -> Steps:
    """Return in which steps image and label map meet.

    Raises:
        InputError: They do not cover the same ground, as rows and columns have different ratios.
    """
    ratios = {
        Fraction(found, wanted)
        for found, wanted in zip(sample.target.shape, sample.size, strict=True)
    }
    if len(ratios) != 1 or max(ratios) > 1:
        raise InputError(
            f"a label map has {sample.target.shape} pixels and its images {sample.size}, expected "
            "the same, or fewer by one ratio"
        )
    ratio = ratios.pop()
    return ratio.denominator, ratio.numerator


def windows(size: tuple[int, int], crop: int, steps: Steps, name: str) -> list[Window]:
    """Return windows that cover an image; the last ones are moved inside.

    Raises:
        InputError: The image is smaller than the window, or they do not fit the label map's grid.
    """
    _check(size, crop, steps, name)
    starts = [_starts(length, crop, steps) for length in size]
    return [
        Window(row, column, crop, steps, (above, left))
        for row, above in starts[0]
        for column, left in starts[1]
    ]


def random_window(
    size: tuple[int, int], crop: int, steps: Steps, name: str, rng: np.random.Generator
) -> Window:
    """Draw a window.

    Raises:
        InputError: See `windows`.
    """
    _check(size, crop, steps, name)
    row, column = (int(rng.integers((length - crop) // steps[0] + 1)) * steps[0] for length in size)
    return Window(row, column, crop, steps)


def cut(sample: MapSample, window: Window) -> MapSample:
    """Return the part of a sample that a window shows; what another window shows is `IGNORED`."""
    rows = slice(window.row, window.row + window.size)
    columns = slice(window.column, window.column + window.size)

    def part(image: Array | None) -> Array | None:
        return None if image is None else image[..., rows, columns]

    fine, coarse = window.steps
    target = sample.target[
        rows.start * coarse // fine : rows.stop * coarse // fine,
        columns.start * coarse // fine : columns.stop * coarse // fine,
    ]
    if any(window.known):
        target = target.copy()
        target[: window.known[0]] = IGNORED
        target[:, : window.known[1]] = IGNORED
    return replace(
        sample, optical=part(sample.optical), sar=part(sample.sar), clear=part(sample.clear),
        cloud=part(sample.cloud), target=target,
    )  # fmt: skip


def _starts(length: int, crop: int, steps: Steps) -> list[tuple[int, int]]:
    """First pixel of each window, and how many pixels of the label map are known before it."""
    fine, coarse = steps
    starts = list(range(0, length - crop + 1, crop))
    last = (length - crop) // fine * fine
    found = [(start, 0) for start in starts]
    if starts[-1] < last:
        found.append((last, (starts[-1] + crop - last) * coarse // fine))
    return found


def _check(size: tuple[int, int], crop: int, steps: Steps, name: str) -> None:
    if min(size) < crop:
        raise InputError(
            f"an image of {name} has {size[0]} x {size[1]} pixels, expected at least {crop} x "
            f"{crop}",
            hint="Set option 'crop' to a smaller multiple of 32, or give larger images",
        )
    if crop % steps[0]:
        raise InputError(
            f"option 'crop' is {crop}, expected a multiple of {steps[0]}, since {steps[0]} pixels "
            f"of an image of {name} are {steps[1]} of its label map"
        )
