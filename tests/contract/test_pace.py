"""What every pace promises, the real one in Valkey and the fake one of the unit tests."""

from __future__ import annotations

import random
import threading
import time

import pytest

from service.pace.bucket import BURST_SECONDS, PaceAwayError, ValkeyPace
from tests.fakes import FakePace, reserve


class Real:
    """Two processes' paces on one Valkey."""

    def __init__(self, server):
        self.server = server
        self.paces = [ValkeyPace(server.url) for _ in range(3)]

    def sleep(self, seconds):
        time.sleep(seconds)

    def go_away(self):
        self.server.kill()

    def come_back(self):
        self.server.start()

    def forget(self):
        self.server.flushall()


class Fake:
    def __init__(self):
        shared = FakePace()
        self.paces = [shared, shared, shared]
        self.pace = shared

    def sleep(self, seconds):
        self.pace.advance(seconds)

    def go_away(self):
        self.pace.away = True

    def come_back(self):
        self.pace.away = False

    def forget(self):
        self.pace.forget()


@pytest.fixture(params=["fake", "valkey"])
def world(request):
    if request.param == "fake":
        yield Fake()
        return
    made = Real(request.getfixturevalue("valkey"))
    yield made
    for pace in made.paces:
        pace.close()


@pytest.fixture
def pace(world):
    return world.paces[0]


SOON = pytest.approx


def test_tokens_are_good_one_after_the_other_at_the_rate(pace):
    waits = [reserve(pace, "b", 10, 5) for _ in range(4)]
    assert waits == [SOON(0.5 * number, abs=0.1) for number in (1, 2, 3, 4)]


def test_a_bucket_that_is_new_starts_empty(pace):
    assert reserve(pace, "b", 2, 1) == SOON(0.5, abs=0.05)


def test_buckets_know_nothing_of_each_other(pace):
    reserve(pace, "one", 1, 30)
    assert reserve(pace, "other", 10, 1) == SOON(0.1, abs=0.05)


def test_all_processes_share_a_bucket(world):
    # As on a busy machine time goes by between two questions, what is told is when the tokens are good.
    began = time.monotonic()
    waits = [reserve(pace, "b", 1, 1) for pace in world.paces]
    late = time.monotonic() - began
    assert all(number - late - 0.05 <= wait <= number + 0.05 for number, wait in enumerate(waits, start=1))
    assert late < 0.9


def test_what_nobody_takes_is_kept_for_half_a_second_and_no_longer(world, pace):
    reserve(pace, "b", 10, 1)
    world.sleep(BURST_SECONDS + 0.7)
    # Five tokens were kept: the sixth is a tenth of a second away.
    assert reserve(pace, "b", 10, 5) == SOON(0, abs=0.05)
    assert reserve(pace, "b", 10, 1) == SOON(0.1, abs=0.05)


def test_a_rate_below_one_is_a_rate(pace):
    assert reserve(pace, "b", 0.2, 1) == SOON(5, abs=0.1)
    assert reserve(pace, "b", 0.2, 1) == SOON(10, abs=0.1)


def test_what_is_given_away_counts_at_the_new_rate_where_the_rate_changes(pace):
    reserve(pace, "b", 0.1, 1)
    reserve(pace, "b", 0.1, 1)
    # Two tokens are given away and not good yet.
    assert reserve(pace, "b", 100, 1) == SOON(0.03, abs=0.02)
    reserve(pace, "slower", 100, 50)
    assert reserve(pace, "slower", 10, 1) == SOON(5.1, abs=0.3)


def test_a_pace_that_is_away_says_so_and_works_when_it_is_back(world, pace):
    reserve(pace, "b", 10, 1)
    world.go_away()
    for _ in range(2):
        with pytest.raises(PaceAwayError):
            reserve(pace, "b", 10, 1)
    world.come_back()
    assert reserve(pace, "b", 10, 1) <= 0.3


def test_forgetting_everything_gives_nothing_away_twice(world):
    first = [reserve(pace, "b", 10, 5) for pace in world.paces]
    assert first[-1] == SOON(1.5, abs=0.1)
    world.forget()
    # The last one knows that fifteen tokens are under way, and asks for five more.
    assert reserve(world.paces[-1], "b", 10, 5) == SOON(2.0, abs=0.1)


def test_several_buckets_give_together_and_each_keeps_its_own_rate(pace):
    first = pace.reserve_all({"fast": 100, "slow": 0.5}, 1)
    assert first == {"fast": SOON(0.01, abs=0.05), "slow": SOON(2, abs=0.05)}
    assert reserve(pace, "slow", 0.5, 1) == SOON(4, abs=0.05)
    assert reserve(pace, "fast", 100, 1) == SOON(0.02, abs=0.05)


def test_where_one_bucket_would_take_too_long_none_gives(pace):
    reserve(pace, "slow", 1, 3)
    refused = pace.reserve_all({"fast": 10, "slow": 1}, 1, patience=0.5)
    assert refused == {"fast": SOON(0.1, abs=0.05), "slow": SOON(4, abs=0.05)}
    # As if nobody had asked.
    assert pace.reserve_all({"fast": 10, "slow": 1}, 1) == {"fast": SOON(0.1, abs=0.05), "slow": SOON(4, abs=0.05)}


def test_forgetting_everything_raises_the_rate_of_none_of_several_buckets(world):
    rates = {"one": 10.0, "other": 2.0}
    for pace in world.paces:
        pace.reserve_all(rates, 5)
    # Refused, but told how much is under way.
    world.paces[-1].reserve_all(rates, 5, patience=0)
    world.forget()
    again = world.paces[-1].reserve_all(rates, 5)
    assert again == {"one": SOON(2.0, abs=0.1), "other": SOON(10.0, abs=0.1)}


class TestValkey:
    """Of the real one alone: many take at once, and Valkey forgets in between."""

    RATE, GROUP, SECONDS, TAKERS = 200, 10, 2.0, 4

    def takers(self, valkey, flush_every):
        good: list[float] = []
        lock = threading.Lock()
        start = time.monotonic()

        def take():
            pace = ValkeyPace(valkey.url)
            while time.monotonic() < start + self.SECONDS:
                wait = max(0.0, reserve(pace, "b", self.RATE, self.GROUP))
                with lock:
                    # When they are good, not when this thread wakes up: that is the machine's affair.
                    good.append(time.monotonic() + wait - start)
                time.sleep(wait)
            pace.close()

        threads = [threading.Thread(target=take) for _ in range(self.TAKERS)]
        for thread in threads:
            thread.start()
        chance = random.Random(1)
        while flush_every and time.monotonic() < start + self.SECONDS:
            time.sleep(flush_every * (0.5 + chance.random()))
            valkey.flushall()
        for thread in threads:
            thread.join()
        return sorted(good)

    def test_the_rate_is_exact_whoever_takes(self, valkey):
        good = self.takers(valkey, 0)
        # From the first group on: until then the takers were only being made. Each may have taken a group ahead at last.
        used, seconds = (len(good) - 1) * self.GROUP, good[-1] - good[0]
        assert used <= 1.02 * self.RATE * seconds
        assert used + self.TAKERS * self.GROUP >= 0.98 * self.RATE * seconds

    def test_a_flush_never_raises_the_rate(self, valkey):
        good = self.takers(valkey, 0.3)
        for number in range(1, len(good) + 1):
            # Up to any moment, no more than the rate allows; a group may be a thread's wake-up early.
            assert number * self.GROUP <= self.RATE * good[number - 1] + 2 * self.GROUP


def test_tokens_that_are_taken_ahead_at_a_high_rate_keep_the_rate(valkey):
    rate, count = 5_000, 100
    paces = [ValkeyPace(valkey.url) for _ in range(2)]
    started = time.monotonic()
    # The wait is told from when the answer is here.
    good_at = sorted(reserve(pace, "b", rate, count) + time.monotonic() for _ in range(15) for pace in paces)
    for pace in paces:
        pace.close()
    for number, instant in enumerate(good_at, start=1):
        assert instant >= started + number * count / rate - 0.02


def test_tokens_that_are_taken_ahead_are_not_good_before_valkey_said_so(valkey):
    pace = ValkeyPace(valkey.url)
    ask = pace._reserve

    def late(**asked):
        time.sleep(0.3)
        return ask(**asked)

    pace._reserve = late
    began = time.monotonic()
    reserve(pace, "b", 200, 10)
    wait = reserve(pace, "b", 200, 10)
    assert time.monotonic() + wait >= began + 0.3 + 20 / 200
    pace.close()
