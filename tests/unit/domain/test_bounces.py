"""A reader is given up only after soft refusals of several issues, with nothing accepted between them."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.bounces import DAYS, SPAN, WINDOW, SoftRefusal, is_given_up, standing

MONDAY = dt.date(2019, 6, 3)


def weeks(*numbers, of=None):
    return [SoftRefusal(MONDAY + dt.timedelta(weeks=n), n if of is None else of) for n in numbers]


def day(week):
    return MONDAY + dt.timedelta(weeks=week)


@pytest.mark.parametrize(
    ("refusals", "accepted_on", "today", "gone"),
    [
        (weeks(0, 1, 2), None, day(2), True),
        (weeks(0, 1), None, day(1), False),
        (weeks(0, 5, 10), None, day(10), True),
        (weeks(0, 5, 13), None, day(13), False),  # the first is older than 90 days
        (weeks(0, 1, 2), day(0), day(2), False),  # accepted on the day of the first
        (weeks(0, 1, 2), day(-1), day(2), True),
        (weeks(0, 1, 2, 3), day(0), day(3), True),  # three since
        (weeks(0, 1, 2, of=7), None, day(2), False),  # one issue alone, however long it is tried
        ([SoftRefusal(MONDAY + dt.timedelta(days=n), n) for n in range(10)], None, MONDAY, False),
        ([SoftRefusal(MONDAY + dt.timedelta(days=n), n) for n in range(14)], None, day(2), False),  # 13 days
        ([SoftRefusal(MONDAY + dt.timedelta(days=n), n) for n in range(15)], None, day(2), True),
        ([SoftRefusal(MONDAY, n) for n in range(9)], None, MONDAY, False),
        ([], None, MONDAY, False),
    ],
)
def test_when_a_mailbox_counts_as_gone(refusals, accepted_on, today, gone):
    assert is_given_up(refusals, accepted_on=accepted_on, today=today) is gone


refusals_of = st.lists(st.builds(SoftRefusal, st.dates(day(-20), day(20)), st.integers(0, 6)), max_size=12)


@given(refusals_of, st.none() | st.dates(day(-20), day(20)), st.dates(day(-20), day(20)))
def test_whoever_is_given_up_was_refused_on_several_days_and_accepted_on_none_since(refusals, accepted_on, today):
    counted = standing(refusals, accepted_on=accepted_on, today=today)
    assert all(today - WINDOW <= one.day <= today for one in counted)
    if is_given_up(refusals, accepted_on=accepted_on, today=today):
        assert len({one.day for one in counted}) >= DAYS
        assert counted[-1].day - counted[0].day >= SPAN
        assert accepted_on is None or accepted_on < counted[0].day
        # An acceptance today always saves the reader.
        assert not is_given_up(refusals, accepted_on=today, today=today)
