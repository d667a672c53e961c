"""The dates of a time series: which part of a season each place in a network's input stands for.

A network of fixed length reads one image per slot of its calendar. Images are put into the slots by
their dates, and a slot without an image is missing; so series of any length and rhythm fit one
engine, and each sensor may have its own dates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, ManifestError

Days = npt.NDArray[np.datetime64]

_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Calendar:
    """Consecutive slots of a season, by day of the year; they may run into following years.

    Attributes:
        starts: First day of each slot, ``"MM-DD"``; a slot ends where the next begins.
        end: Day after the last slot, ``"MM-DD"``.
    """

    starts: tuple[str, ...]
    end: str

    def __post_init__(self) -> None:
        for day in (*self.starts, self.end):
            if not _is_day(day):
                raise ManifestError(
                    f"calendar has the day {day!r}, expected 'MM-DD', and not 02-29"
                )

    @cached_property
    def months(self) -> tuple[int, ...]:
        """Month 1 to 12 in which each slot begins."""
        return tuple(int(day[:2]) for day in self.starts)

    def season(self, first: np.datetime64) -> Days:
        """Return the first days of all slots and the day after the last, ``(T + 1,)``.

        It is the season whose beginning lies last on or before a date.
        """
        year = int(str(first)[:4])
        if np.datetime64(f"{year:04d}-{self.starts[0]}") > first:
            year -= 1
        days: list[str] = []
        for day in (*self.starts, self.end):
            year += bool(days) and day <= days[-1][5:]
            days.append(f"{year:04d}-{day}")
        return np.array(days, "datetime64[D]")

    def slots(
        self, dates: Sequence[Any] | Days, season: Days | None = None
    ) -> npt.NDArray[np.int64]:
        """Return the slot of each date.

        Args:
            dates: ``datetime.date``, ``datetime64`` or ``"YYYY-MM-DD"``, each later than the one
                before.
            season: As `season` returns it; None: that of the first date.

        Raises:
            InputError: No dates, not dates, not sorted, double, or out of the season.
        """
        days = as_days(dates)
        bounds = self.season(days[0]) if season is None else season
        outside = days[(days < bounds[0]) | (days >= bounds[-1])]
        if outside.size:
            raise InputError(
                f"the date {outside[0]} is out of the season, expected dates from {bounds[0]} to "
                f"{bounds[-1] - _DAY}",
                hint="Leave out images of other seasons",
            )
        return np.asarray(np.searchsorted(bounds, days, side="right") - 1, np.int64)


def as_days(dates: Sequence[Any] | Days) -> Days:
    """Return dates as days, each later than the one before.

    Raises:
        InputError: No dates, not dates, not sorted, or double.
    """
    try:
        days = np.array(list(dates), "datetime64[D]")
    except (TypeError, ValueError) as error:
        raise InputError(
            f"dates cannot be read: {error}", hint="Give datetime.date or 'YYYY-MM-DD'"
        ) from error
    if days.ndim != 1 or not days.size or np.isnat(days).any():
        raise InputError(f"dates are {list(dates)}, expected one date for each image")
    steps = np.diff(days)
    if (steps == 0 * _DAY).any():
        twice = days[1:][steps == 0 * _DAY][0]
        raise InputError(
            f"the date {twice} stands there twice, expected each date once",
            hint="Merge the images of one day, such as those of neighboring orbits",
        )
    if (steps < 0 * _DAY).any():
        first = int(np.argmax(steps < 0 * _DAY))
        raise InputError(
            f"dates are not sorted: {days[first + 1]} follows {days[first]}",
            hint="Sort images and dates from the earliest to the latest",
        )
    return days


def months(first: int, count: int) -> Calendar:
    """Return a calendar of whole months, from month ``first`` on."""
    days = [f"{(first - 1 + i) % 12 + 1:02d}-01" for i in range(count + 1)]
    return Calendar(tuple(days[:-1]), days[-1])


def dekads(first: int, count: int) -> Calendar:
    """Return a calendar of thirds of months (from the 1st, 11th and 21st), from a month's first."""
    days = [f"{(first - 1 + i // 3) % 12 + 1:02d}-{1 + 10 * (i % 3):02d}" for i in range(count + 1)]
    return Calendar(tuple(days[:-1]), days[-1])


def _is_day(text: str) -> bool:
    if not re.fullmatch(r"\d\d-\d\d", text):
        return False
    try:
        np.datetime64(f"2001-{text}")
    except ValueError:
        return False
    return True
