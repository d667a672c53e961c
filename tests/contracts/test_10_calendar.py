"""Dates and slots: a season by day of the year, and what is no series of dates."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from esccs_edge.contracts.calendar import Calendar, dekads, months
from esccs_edge.contracts.modality import SampleSpec
from esccs_edge.errors import InputError, ManifestError

SEASON = months(9, 17)


def test_months_and_dekads_run_into_the_next_years():
    assert SEASON.starts[0] == "09-01" and SEASON.starts[-1] == "01-01" and SEASON.end == "02-01"
    assert SEASON.months == (9, 10, 11, 12, *range(1, 13), 1)
    assert dekads(9, 51).starts[:4] == ("09-01", "09-11", "09-21", "10-01")
    bounds = SEASON.season(np.datetime64("2022-09-05"))
    assert str(bounds[0]) == "2022-09-01" and str(bounds[-1]) == "2024-02-01"


def test_a_series_that_begins_before_the_first_month_belongs_to_the_season_of_the_year_before():
    assert str(SEASON.season(np.datetime64("2022-08-31"))[0]) == "2021-09-01"


@pytest.mark.parametrize("year", [2019, 2020, 2023])  # the next ones are leap years or not
def test_every_day_of_a_season_lies_in_the_slot_of_its_month(year):
    bounds = SEASON.season(np.datetime64(f"{year}-09-01"))
    days = np.arange(bounds[0], bounds[-1])
    slots = SEASON.slots(days)
    found = np.array(SEASON.months)[slots]
    assert (found == [int(str(day)[5:7]) for day in days]).all()
    assert (np.diff(slots) >= 0).all() and slots[-1] == 16


def test_dates_of_several_kinds_are_read():
    wanted = [0, 1]
    for dates in (
        ["2022-09-05", "2022-10-01"],
        [datetime.date(2022, 9, 5), datetime.date(2022, 10, 1)],
        np.array(["2022-09-05", "2022-10-01"], "datetime64[s]"),
    ):
        assert SEASON.slots(dates).tolist() == wanted


@pytest.mark.parametrize(
    "dates, words",
    [
        (["2022-10-01", "2022-09-01"], "not sorted"),
        (["2022-10-01", "2022-10-01"], "twice"),
        (["2022-10-01", "2024-02-01"], "out of the season"),
        (["soon"], "cannot be read"),
        (["NaT"], "one date for each image"),
        ([], "one date for each image"),
    ],
)
def test_what_is_no_series_of_dates_is_refused(dates, words):
    with pytest.raises(InputError, match=words):
        SEASON.slots(dates)


@pytest.mark.parametrize("day", ["9-1", "02-29", "13-01", "2022-09-01"])
def test_a_calendar_of_no_days_is_refused(day):
    with pytest.raises(ManifestError, match="MM-DD"):
        Calendar((day,), "10-01")


def test_a_sample_has_one_date_for_each_slot():
    assert SampleSpec(1, 1, 10, 17, SEASON).grid == (17, 1)
    assert SampleSpec(4, 3, 10, 2).grid == (8, 3) and SampleSpec(4, 3, 10).grid == (4, 3)
    with pytest.raises(ManifestError, match="one for each slot"):
        SampleSpec(1, 1, 10, 16, SEASON)
