import datetime as dt

import pytest

from service.domain.errors import InvalidInputError
from service.domain.limits import MOST_RATE, SLOWEST_RATE, Limit, checked_rate, midnight_after, scope_parts
from service.domain.warmup import STEPS, warm_up_cap, warm_up_day

MONDAY = dt.date(2019, 6, 3)


def on(number):
    return MONDAY + dt.timedelta(days=number)


def test_a_warm_up_grows_day_by_day_and_ends():
    plan = [warm_up_cap(MONDAY, on(number)) for number in range(len(STEPS) + 1)]
    assert plan == [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, None]
    assert warm_up_day(MONDAY, on(2)) == 3
    assert warm_up_day(MONDAY, on(len(STEPS))) is None


def test_before_its_first_day_a_warm_up_allows_no_more_than_on_it():
    assert warm_up_cap(MONDAY, on(-5)) == 50


@pytest.mark.parametrize(
    ("limit", "cap"),
    [
        (Limit(), None),
        (Limit(per_day=0), None),
        (Limit(per_day=70), 70),
        (Limit(warm_up_from=MONDAY), 100),
        (Limit(per_day=70, warm_up_from=MONDAY), 70),
        (Limit(per_day=7000, warm_up_from=MONDAY), 100),
        (Limit(per_day=0, warm_up_from=MONDAY), 100),
    ],
)
def test_the_lower_of_cap_and_warm_up_holds(limit, cap):
    assert limit.cap(on(1)) == cap


def test_a_limit_stands_over_another_where_it_is_set():
    assert Limit(rate=0, weight=2).over(Limit(rate=5, per_day=10)) == Limit(rate=0, per_day=10, weight=2)


def test_the_day_is_that_of_utc():
    late = dt.datetime(2019, 6, 3, 1, 0, tzinfo=dt.timezone(dt.timedelta(hours=3)))
    assert midnight_after(late) == dt.datetime(2019, 6, 3, tzinfo=dt.UTC)


def test_a_scope_is_taken_apart():
    assert scope_parts("installation") == ("installation", "")
    assert scope_parts("relay:host:25") == ("relay", "host:25")


@pytest.mark.parametrize("rate", [0, SLOWEST_RATE, 0.5, 20, MOST_RATE])
def test_a_rate_that_can_be_kept_is_taken(rate):
    assert checked_rate(rate, "rate", zero="0 = none") == rate


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), -float("inf"), -1, -1e-9, MOST_RATE + 1, 1e300, 5e-324])
def test_a_rate_that_nobody_could_keep_is_refused_and_says_what_can_be(rate):
    with pytest.raises(InvalidInputError, match=r"--rate \S+ is not from 0 to 1,000,000: mails per second \(0 = none;"):
        checked_rate(rate, "--rate", zero="0 = none")
