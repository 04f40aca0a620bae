import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvalidInputError
from service.domain.weeks import Week

DAYS = st.dates(dt.date(1900, 1, 1), dt.date(2200, 12, 31))


def test_a_week_runs_from_monday_to_sunday():
    week = Week.parse("2019-W22")
    assert (week.monday, week.sunday) == (dt.date(2019, 5, 27), dt.date(2019, 6, 2))
    assert str(week) == "2019-W22"


@pytest.mark.parametrize(
    ("day", "week"),
    [
        (dt.date(2018, 12, 31), "2019-W01"),
        (dt.date(2021, 1, 3), "2020-W53"),
        (dt.date(2021, 1, 4), "2021-W01"),
        (dt.date(2024, 12, 30), "2025-W01"),
    ],
)
def test_days_around_new_year_belong_to_the_week_that_holds_their_thursday(day, week):
    assert str(Week.of(day)) == week


def test_weeks_are_counted_across_a_year_of_53():
    assert str(Week.parse("2020-W52").shifted(1)) == "2020-W53"
    assert str(Week.parse("2020-W53").shifted(1)) == "2021-W01"
    assert str(Week.parse("2021-W01").shifted(-1)) == "2020-W53"


@pytest.mark.parametrize(
    "text", ["2019-22", "2019W22", "W22", "2019-W5", "", "2019-W222", "٢٠١٩-W22 x", "٢٠١٩-W22", "2019-W²²"]
)
def test_what_is_no_week_is_refused_with_an_example(text):
    with pytest.raises(InvalidInputError, match="2019-W22"):
        Week.parse(text)


@pytest.mark.parametrize("text", ["2019-W53", "2019-W00", "0000-W01"])
def test_a_week_that_the_year_does_not_have_is_refused(text):
    with pytest.raises(InvalidInputError, match="does not exist"):
        Week.parse(text)


@given(DAYS)
def test_every_day_lies_in_its_own_week(day):
    week = Week.of(day)
    assert week.monday <= day <= week.sunday
    assert Week.parse(str(week)) == week


@given(DAYS, st.integers(-200, 200))
def test_going_there_and_back_ends_where_it_began(day, weeks):
    week = Week.of(day)
    assert week.shifted(weeks).shifted(-weeks) == week
    assert (week.shifted(weeks) > week) == (weeks > 0)
