"""What every pace promises, the real one in Valkey and the fake one of the unit tests."""

from __future__ import annotations

import random
import threading
import time

import pytest

from service.pace.bucket import BURST_SECONDS, PaceAwayError, ValkeyPace
from tests.chaos.clocks import WallClock, hindrance
from tests.fakes import FakePace, reserve
from tests.servers import valkey_server


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


class Soon:
    """In so many seconds from when it was made.

    A wait is told from the moment of the answer, and on a busy machine time goes by between two questions: it may be
    shorter by what has gone by, but for what was `slept`, and never longer.
    """

    def __init__(self):
        self._made = time.monotonic()

    def __call__(self, wait, seconds, slept=0.0):
        late = self._late(slept)
        return seconds - late - 0.05 <= wait <= seconds + 0.05

    def as_told(self, wait, seconds):
        """Where a process tells what it knows: that gets older on the way, by as much as the question takes."""
        late = self._late(0.0)
        return seconds - late - 0.05 <= wait <= seconds + late + 0.05

    def _late(self, slept):
        return max(0.0, time.monotonic() - self._made - slept)


@pytest.fixture
def soon(world):
    """From the beginning of the test on."""
    return Soon()


def test_tokens_are_good_one_after_the_other_at_the_rate(pace, soon):
    waits = [reserve(pace, "b", 1, 5) for _ in range(4)]
    assert all(soon(wait, 5 * number) for number, wait in enumerate(waits, start=1))


def test_a_bucket_that_is_new_starts_empty(pace):
    assert reserve(pace, "b", 2, 1) == SOON(0.5, abs=0.05)


def test_buckets_know_nothing_of_each_other(pace):
    reserve(pace, "one", 1, 30)
    assert reserve(pace, "other", 10, 1) == SOON(0.1, abs=0.05)


def test_all_processes_share_a_bucket(world, soon):
    waits = [reserve(pace, "b", 0.1, 1) for pace in world.paces]
    assert all(soon(wait, 10 * number) for number, wait in enumerate(waits, start=1))


def test_what_nobody_takes_is_kept_for_half_a_second_and_no_longer(world, pace):
    reserve(pace, "b", 10, 1)
    world.sleep(BURST_SECONDS + 0.7)
    # Five tokens were kept: the sixth is a tenth of a second away.
    soon = Soon()
    assert reserve(pace, "b", 10, 5) == SOON(0, abs=0.05)
    assert soon(reserve(pace, "b", 10, 1), 0.1)


def test_a_rate_below_one_is_a_rate(pace, soon):
    assert reserve(pace, "b", 0.2, 1) == SOON(5, abs=0.1)
    assert soon(reserve(pace, "b", 0.2, 1), 10)


def test_what_is_given_away_counts_at_the_new_rate_where_the_rate_changes(pace, soon):
    reserve(pace, "b", 0.1, 1)
    reserve(pace, "b", 0.1, 1)
    # Two tokens are given away and not good yet.
    assert reserve(pace, "b", 100, 1) == SOON(0.03, abs=0.02)
    reserve(pace, "slower", 0.1, 5)
    # What is left of fifty seconds is ten times as much at a tenth of the rate.
    wait = reserve(pace, "slower", 0.01, 1)
    assert soon(wait / 10, 60)


def test_what_is_good_in_a_moment_makes_nobody_wait_for_longer_where_the_rate_is_lowered(pace, soon):
    reserve(pace, "b", 100, 200)
    # Its two hundred would take ten minutes.
    assert soon(reserve(pace, "b", 0.3, 1), 2 + 1 / 0.3)


def test_tokens_that_are_given_back_are_there_for_the_next_who_asks(world, soon):
    one, other, third = world.paces
    reserve(one, "b", 1, 10)
    reserve(other, "b", 1, 10)
    # At another rate meanwhile: ten tokens are ten, and twenty were given away.
    assert soon(reserve(third, "b", 0.5, 1) / 2, 21)
    # Who gives back does not say how long the tokens of others last; his own are worth what he was to wait for them.
    assert soon(reserve(one, "b", 1, -10) / 2, 16)
    assert soon(reserve(third, "b", 1, 0) / 2, 16)
    reserve(other, "b", 1, -10)
    assert soon(reserve(one, "b", 0.5, 1) / 2, 12)


def test_who_has_not_heard_of_a_lower_rate_and_gives_back_leaves_the_others_what_they_wait_for(world, soon):
    late, one, other = world.paces
    reserve(late, "b", 20, 5)
    reserve(one, "b", 0.1, 1)
    assert soon(reserve(other, "b", 0.1, 1), 20.25)
    assert soon(reserve(late, "b", 20, -5), 20)
    assert soon(reserve(late, "b", 20, 0), 20)
    assert soon(reserve(other, "b", 0.1, 0), 20)


def test_more_than_is_given_away_cannot_be_given_back(world, pace, soon):
    reserve(pace, "b", 10, 1)
    reserve(pace, "b", 10, -100)
    assert soon(reserve(pace, "b", 10, 1), 0.1)
    assert soon(reserve(world.paces[1], "b", 10, 1), 0.2)


def test_who_takes_none_is_told_when_all_are_good_that_were_given_away(world, pace, soon):
    reserve(pace, "b", 1, 3)
    assert soon(reserve(world.paces[1], "b", 1, 0), 3)
    assert soon(reserve(pace, "b", 1, 1), 4)


def test_a_pace_that_is_away_says_so_and_works_when_it_is_back(world, pace):
    reserve(pace, "b", 10, 1)
    world.go_away()
    for _ in range(2):
        with pytest.raises(PaceAwayError):
            reserve(pace, "b", 10, 1)
    world.come_back()
    assert reserve(pace, "b", 10, 1) <= 0.3


def test_forgetting_everything_gives_nothing_away_twice(world, soon):
    first = [reserve(pace, "b", 1, 5) for pace in world.paces]
    assert soon(first[-1], 15)
    world.forget()
    # The last one knows that fifteen tokens are under way, and asks for five more.
    assert soon(reserve(world.paces[-1], "b", 1, 5), 20)


def test_several_buckets_give_together_and_each_keeps_its_own_rate(pace, soon):
    first = pace.reserve_all({"fast": 100, "slow": 0.5}, 1)
    assert first == {"fast": SOON(0.01, abs=0.05), "slow": SOON(2, abs=0.05)}
    assert soon(reserve(pace, "slow", 0.5, 1), 4)
    assert soon(reserve(pace, "fast", 100, 1), 0.02)


def test_where_one_bucket_would_take_too_long_none_gives(pace, soon):
    rates = {"fast": 1, "slow": 0.1}
    reserve(pace, "slow", 0.1, 3)
    refused = pace.reserve_all(rates, 1, patience=5)
    assert soon(refused["fast"], 1)
    assert soon(refused["slow"], 40)
    # As if nobody had asked.
    given = pace.reserve_all(rates, 1)
    assert soon(given["fast"], 1)
    assert soon(given["slow"], 40)


def test_who_is_refused_finds_later_what_has_come_meanwhile(world, pace, soon):
    def ask():
        return pace.reserve_all({"new": 0.1}, 1, patience=9.5)["new"]

    assert ask() == SOON(10, abs=0.05)
    world.sleep(0.9)
    # The first was refused, the second is given, and the third refused.
    assert soon(ask(), 9.1, slept=0.9)
    assert soon(ask(), 19.1, slept=0.9)
    assert soon(reserve(pace, "new", 0.1, 1), 19.1, slept=0.9)


def test_of_a_slow_rate_one_token_is_kept_and_no_more(world, pace):
    reserve(pace, "b", 1, 1)
    world.sleep(3)
    soon = Soon()
    assert reserve(pace, "b", 1, 1) == SOON(0, abs=0.05)
    assert soon(reserve(pace, "b", 1, 1), 1)


def test_forgetting_everything_raises_the_rate_of_none_of_several_buckets(world, soon):
    rates = {"one": 1.0, "other": 0.2}
    for pace in world.paces:
        pace.reserve_all(rates, 5)
    # Refused, but told how much is under way.
    world.paces[-1].reserve_all(rates, 5, patience=0)
    world.forget()
    again = world.paces[-1].reserve_all(rates, 5)
    assert soon(again["one"], 20)
    assert soon(again["other"], 100)


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

    def test_after_a_flush_each_tells_what_it_knows_whoever_asks_first(self, valkey):
        paces = [ValkeyPace(valkey.url) for _ in range(4)]
        soon = Soon()
        for pace in paces[:3]:
            reserve(pace, "b", 1, 5)
        valkey.flushall()
        # One that knows of nothing.
        assert soon.as_told(reserve(paces[3], "b", 1, 1), 1)
        # Of the fifteen that were promised this one knows of ten, and they count once.
        assert soon.as_told(reserve(paces[1], "b", 1, 1), 12)
        assert soon.as_told(reserve(paces[0], "b", 1, 1), 13)
        assert soon.as_told(reserve(paces[2], "b", 1, 1), 19)
        assert soon.as_told(reserve(paces[1], "b", 1, 1), 20)
        valkey.flushall()
        # Who was refused has told it even so.
        paces[1].reserve_all({"b": 1}, 1, patience=5)
        assert soon.as_told(reserve(paces[3], "b", 1, 1), 21)
        for pace in paces:
            pace.close()

    def test_what_was_given_back_is_told_by_nobody_as_given_away(self, valkey):
        paces = [ValkeyPace(valkey.url) for _ in range(3)]
        soon = Soon()
        for pace in paces:
            reserve(pace, "b", 1, 5)
        reserve(paces[1], "b", 1, -5)
        assert soon.as_told(reserve(paces[2], "b", 1, 1), 11)
        assert soon.as_told(reserve(paces[0], "b", 1, 1), 12)
        for pace in paces:
            pace.close()

    def test_a_bucket_that_went_by_itself_leaves_no_debt(self, valkey, monkeypatch):
        pace, now = ValkeyPace(valkey.url), time.monotonic
        for hours in range(1, 5):
            assert SOON(1, abs=0.001) == reserve(pace, "b", 1, 1)
            valkey.command("DEL", "tydzen:pace:b", "tydzen:pace:b:guard")
            monkeypatch.setattr("service.pace.bucket.time.monotonic", lambda hours=hours: now() + 3700 * hours)
        pace.close()

    def test_a_question_that_is_long_on_its_way_makes_nobody_wait_longer(self, valkey, monkeypatch):
        pace, now = ValkeyPace(valkey.url), time.monotonic
        soon = Soon()
        assert soon(reserve(pace, "b", 1, 60), 60)
        for late in (0.3, 0.0) * 10:
            # As it is when the process stands still between its look at the clock and Valkey's.
            with monkeypatch.context() as patched:
                patched.setattr("service.pace.bucket.time.monotonic", lambda late=late: now() - late)
                assert soon(reserve(pace, "b", 1, 0), 60)
        pace.close()

    def test_a_guard_that_is_lost_by_itself_doubles_nothing(self, valkey):
        pace = ValkeyPace(valkey.url)
        soon = Soon()
        assert soon(reserve(pace, "b", 1, 30), 30)
        valkey.command("DEL", "tydzen:pace:b:guard")
        assert soon.as_told(reserve(pace, "b", 1, 0), 30)
        pace.close()

    @pytest.fixture
    def stepped(self, tmp_path, monkeypatch):
        """A Valkey and its clock."""
        if why := hindrance():
            pytest.skip(why)
        clock = WallClock(tmp_path)
        for setting in clock.within[1:]:
            monkeypatch.setenv(*setting.split("=", 1))
        with valkey_server(tmp_path / "v") as server:
            monkeypatch.undo()
            yield server, clock

    @pytest.mark.parametrize("seconds", [0.5, 3, 1800, 86_400])
    def test_where_its_clock_is_set_back_nobody_waits_for_that(self, stepped, seconds):
        server, clock = stepped
        one, other = ValkeyPace(server.url), ValkeyPace(server.url)
        soon = Soon()
        assert soon(reserve(one, "b", 2, 4), 2)
        clock.step(-seconds)
        assert soon(reserve(other, "b", 2, 4), 4)
        assert soon(reserve(one, "b", 2, 4), 6)
        clock.set_right()
        one.close()
        other.close()

    @pytest.mark.parametrize("seconds", [0.5, 3, 1800, 86_400])
    def test_where_its_clock_is_set_forward_it_gives_a_burst_at_most(self, stepped, seconds):
        server, clock = stepped
        rate, one, other = 10, ValkeyPace(server.url), ValkeyPace(server.url)
        reserve(one, "b", rate, 1)
        time.sleep(0.5)
        begun = time.monotonic()
        taken = reserve(one, "b", rate, 20)
        clock.step(seconds)
        # Beside the twenty that it knows of; a busy machine takes its time between the two.
        again = reserve(one, "b", rate, 10)
        assert again >= taken + 1 - BURST_SECONDS - 0.05 - (time.monotonic() - begun)
        begun = time.monotonic()
        assert reserve(one, "b", rate, 10) >= again + 1 - 0.2 - (time.monotonic() - begun)
        # To one that knows of nothing.
        clock.step(seconds)
        assert reserve(other, "b", rate, 10) >= 1 - BURST_SECONDS - 0.05
        clock.set_right()
        one.close()
        other.close()

    def test_workers_of_the_release_before_share_a_bucket(self, valkey):
        """They know of the bucket alone, and nothing of what guards it."""
        pace = ValkeyPace(valkey.url)
        soon = Soon()
        assert soon(reserve(pace, "b", 1, 5), 5)
        stored = valkey.command("GET", "tydzen:pace:b").split(b"\r\n")[1]
        instant, rate = map(float, stored.split())
        assert rate == 1
        # One of theirs takes five.
        valkey.command("SET", "tydzen:pace:b", f"{instant + 5:.6f} 1")
        assert soon(reserve(pace, "b", 1, 5), 15)
        valkey.command("DEL", "tydzen:pace:b:guard")
        other = ValkeyPace(valkey.url)
        assert soon(reserve(other, "b", 1, 5), 20)
        pace.close()
        other.close()

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


def test_tokens_that_are_given_back_take_along_what_was_taken_ahead(valkey):
    pace = ValkeyPace(valkey.url)
    for _ in range(20):
        time.sleep(max(0.0, reserve(pace, "b", 1_000, 10)))
    (stock,) = pace._stocks.values()
    stock.left += 10
    reserve(pace, "b", 1_000, -10)
    assert pace.at_hand({"b": 1_000}, 10) is None
    assert not pace._stocks
    pace.close()


def test_tokens_that_are_taken_ahead_are_not_good_before_valkey_said_so(valkey):
    other = ValkeyPace(valkey.url)
    # Where this process stands still between two questions, nothing is taken ahead: then once more.
    for number in range(5):
        pace, bucket, asked = ValkeyPace(valkey.url), f"b{number}", []
        for _ in range(3):
            reserve(pace, bucket, 200, 10)
        given = reserve(other, bucket, 200, 100) + time.monotonic()
        ask = pace._reserve

        def late(ask=ask, asked=asked, **how):
            asked.append(how)
            time.sleep(0.3)
            return ask(**how)

        pace._reserve = late
        reserve(pace, bucket, 200, 10)
        wait = reserve(pace, bucket, 200, 10)
        good_at = time.monotonic() + wait
        pace.close()
        if len(asked) == 1:
            break
    assert len(asked) == 1
    assert good_at >= given + 20 / 200 - 0.02
    other.close()
