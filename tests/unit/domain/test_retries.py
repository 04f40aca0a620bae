"""The schedule of deferrals."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.retries import GIVE_UP_AFTER, next_attempt

START = dt.datetime(2019, 6, 3, 6, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("attempts", "minutes"), [(1, 5), (2, 15), (3, 30), (4, 60), (5, 120), (6, 240), (7, 240), (100, 240)]
)
def test_waits_grow_up_to_four_hours(attempts: int, minutes: int) -> None:
    assert next_attempt(START, attempts, START, 0.5) == START + dt.timedelta(minutes=minutes)


@given(st.integers(1, 20), st.floats(0, 1, exclude_max=True))
def test_jitter_is_a_fifth_either_way(attempts: int, unit_random: float) -> None:
    plain, jittered = next_attempt(START, attempts, START, 0.5), next_attempt(START, attempts, START, unit_random)
    assert plain is not None
    assert jittered is not None
    assert 0.8 <= (jittered - START) / (plain - START) <= 1.2


def test_nothing_is_tried_later_than_two_days_after_the_first_attempt() -> None:
    almost = START + GIVE_UP_AFTER - dt.timedelta(hours=4)
    assert next_attempt(START, 15, almost, 0.5) == START + GIVE_UP_AFTER
    assert next_attempt(START, 15, almost + dt.timedelta(seconds=1), 0.5) is None
    assert next_attempt(START, 15, START + dt.timedelta(days=9), 0.5) is None


def test_a_delivery_that_was_never_tried_has_no_next_attempt() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next_attempt(START, 0, START, 0.5)


def test_all_attempts_of_a_delivery_end() -> None:
    now, attempts = START, 1
    while (due := next_attempt(START, attempts, now, 0.5)) is not None:
        now, attempts = due, attempts + 1
    assert attempts == 17
