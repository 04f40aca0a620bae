"""When refusals are too many: each rule by a table of cases, and by properties over any order of replies."""

from __future__ import annotations

import datetime as dt
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.breakers import PROBE_LETTERS, PolicyCounter, Probe, ProviderCounter, Tally, hold_of

NOW = dt.datetime(2019, 6, 3, tzinfo=dt.UTC)


def trips_at(replies):
    """The number of the reply, P for a refusal by policy, at which the breaker trips; None where it never does."""
    counter = PolicyCounter()
    for number, reply in enumerate(replies, 1):
        if reply == "P":
            if counter.refused():
                return number
        else:
            counter.others(1)
    return None


@pytest.mark.parametrize(
    ("replies", "trip"),
    [
        ("P" * 20, 20),
        ("P" * 19, None),
        ("P" * 19 + "." + "P" * 19, 21),  # the twentieth, and half of all
        ("." * 400 + "P" * 19 + "." + "P" * 2, 422),  # 21 of the last 400
        ("." * 400 + "P" * 20, 420),
        (("." * 19 + "P") * 100, None),  # one in twenty is 5 %, and no more
        (("." * 18 + "P") * 100, 19 * 20),  # 20 of 380
        (("." * 30 + "P") * 200, None),
        ("P" * 15 + "." * 385 + "P" * 15, None),  # never 20 in any 400
        ("", None),
    ],
)
def test_policy_refusals_trip_in_a_row_or_above_their_share(replies, trip):
    assert trips_at(replies) == trip


@given(st.lists(st.sampled_from(["P", "."]), max_size=900))
def test_the_counter_trips_exactly_where_the_rule_says_so(replies):
    expected = None
    for end in range(1, len(replies) + 1):
        if replies[end - 1] != "P":
            continue
        window = replies[max(0, end - 400) : end]
        count = window.count("P")
        if replies[max(0, end - 20) : end].count("P") == 20 or (count >= 20 and count > 0.05 * len(window)):
            expected = end
            break
    assert trips_at(replies) == expected


def refused_until_trip(letters, refusals, *, hard=True, proven=False):
    counter = ProviderCounter()
    counter.wrote({"gmail": letters, "yandex": 1000}, NOW)
    for number in range(1, refusals + 1):
        if counter.refused("gmail", hard=hard, proven=proven):
            return number
    return None


@pytest.mark.parametrize(
    ("letters", "refusals", "proven", "trip"),
    [
        (200, 10, False, None),  # exactly 5 %
        (200, 11, False, 11),
        (199, 19, False, None),  # too few letters to say
        (30, 30, False, 20),  # an outage: more than half of all
        (100, 50, False, None),
        (100, 51, False, 51),
        (19, 19, False, None),
        (200, 100, True, None),  # proven: single mailboxes are believed to be gone
        (200, 101, True, 101),
    ],
)
def test_a_provider_that_refuses_too_much_is_left_alone(letters, refusals, proven, trip):
    assert refused_until_trip(letters, refusals, proven=proven) == trip


def test_refusals_are_forgotten_with_the_letters_of_their_time():
    counter = ProviderCounter()
    for _ in range(100):
        counter.wrote({"gmail": 100}, NOW)
        for _ in range(4):
            assert counter.refused("gmail", hard=True, proven=False) is None
    counter.wrote({"gmail": 100}, NOW)
    tripped = [counter.refused("gmail", hard=False, proven=False) for _ in range(20)]
    assert any(tripped), "twenty of the last hundred letters were drowned in ten thousand older ones"


def test_a_tally_knows_since_when_it_counts():
    tally = Tally(NOW)
    times = [NOW + dt.timedelta(minutes=minute) for minute in range(10)]
    for at in times:
        tally.wrote(100, at)
    assert tally.sums()[0] in range(200, 401)
    assert tally.since == times[6]


def test_letters_that_were_not_sent_after_all_do_not_count():
    counter = ProviderCounter()
    counter.wrote({"gmail": 300}, NOW)
    for _ in range(101):
        counter.returned("gmail")
    assert [counter.refused("gmail", hard=True, proven=False) for _ in range(15)] == [None] * 15


def test_a_tripped_provider_is_counted_anew():
    counter = ProviderCounter()
    counter.wrote({"gmail": 200}, NOW)
    first = [counter.refused("gmail", hard=True, proven=False) for _ in range(11)]
    assert isinstance(first[-1], Tally)
    assert first[-1].mostly_hard
    counter.wrote({"gmail": 200}, NOW)
    assert counter.refused("gmail", hard=True, proven=False) is None


@given(st.lists(st.tuples(st.integers(0, 9999), st.booleans()), max_size=300))
def test_however_many_domains_there_are_memory_stays_small(domains):
    counter = ProviderCounter()
    for start in range(0, 9000, 1000):
        counter.wrote({f"domain-{start + number}.example": 1 for number in range(1000)}, NOW)
    for number, hard in domains:
        counter.wrote({f"domain-{number}.example": 2}, NOW)
        counter.refused(f"domain-{number}.example", hard=hard, proven=False)
    assert len(counter.tallies) <= 4096
    assert all(tally.letters >= 0 for tally in counter.tallies.values())


@pytest.mark.parametrize(
    ("taken", "refused", "over", "verdict"),
    [
        (0, 0, True, None),
        (5, 4, False, None),
        (5, 5, False, True),
        (4, 6, False, False),
        (0, PROBE_LETTERS, False, False),
        (1, 0, True, True),
        # A mailbox or two may be gone anywhere.
        (0, 1, True, None),
        (0, 4, True, None),
        (0, 5, True, False),
        (2, 3, True, False),
    ],
)
def test_a_probe_decides_by_most_of_its_letters(taken, refused, over, verdict):
    assert Probe(0, taken, refused).verdict(over=over) is verdict


def test_each_trip_doubles_the_hold_up_to_a_day():
    hours = [hold_of(trips) / dt.timedelta(hours=1) for trips in (1, 2, 3, 4, 5, 6, 7, 500)]
    assert hours == [1, 2, 4, 8, 16, 24, 24, 24]


def test_an_accepted_letter_costs_next_to_nothing():
    counter = PolicyCounter()
    providers = ProviderCounter()

    def group():
        counter.others(100)
        providers.wrote({"gmail": 40, "yandex": 30, "mail.ru": 30}, NOW)

    assert min(timeit.repeat(group, number=1000, repeat=5)) / 1000 / 100 < 1e-6
