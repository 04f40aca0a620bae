"""The watch of a process: replies to several runs of a mailing are counted as one row."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace

import pytest

from service.delivery import breaking
from service.delivery import watch as watching
from service.delivery.breaking import Guard
from service.delivery.watch import PolicyTrip, ProbeOver, ProviderTrip, Watch
from service.domain.replies import Phase, ReplyClass
from service.mail.letter import Outcome
from service.store import Sealer
from service.store.breakers import OUTAGE, Breaker, sealed_scope
from tests.conftest import KEYRING

MAILING = 7
PROVIDER = "firm.example"
NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)


class Sending:
    """A run of which letters are accepted without a word to the watch, as they are."""

    def __init__(self, watch, mailing=MAILING):
        self.mailing = mailing
        self.accepted = 0
        watch.begin(self)

    def uncounted(self):
        new, self.accepted = self.accepted, 0
        return new


@pytest.fixture
def watch():
    return Watch(Sealer(KEYRING))


def refuse(watch, run, times):
    for _ in range(times):
        watch.heard(Outcome(1, 1, ReplyClass.POLICY, 550, "5.7.1", "spam", Phase.RCPT, "relay", past_dot=False), run)


def test_what_one_run_is_granted_ends_the_row_of_what_another_is_refused(watch):
    one, other = Sending(watch), Sending(watch)
    for _ in range(30):
        refuse(watch, one, 1)
        other.accepted += 30
    assert not watch.due


def test_what_several_runs_are_refused_in_a_row_is_a_row(watch):
    one, other = Sending(watch), Sending(watch)
    one.accepted = 1000
    refuse(watch, one, 10)
    refuse(watch, other, 9)
    assert not watch.due
    refuse(watch, one, 1)
    (trip,) = watch.due
    assert isinstance(trip, PolicyTrip)
    assert trip.mailing == MAILING


def test_what_a_run_was_granted_at_its_end_is_counted(watch):
    for _ in range(30):
        run = Sending(watch)
        refuse(watch, run, 1)
        run.accepted = 30
        watch.run_over(run)
    assert not watch.due


def test_a_mailing_under_way_is_not_forgotten_for_others_that_come_and_go(watch):
    run = Sending(watch)
    for other in range(19):
        refuse(watch, run, 1)
        watch.run_over(Sending(watch, MAILING + 1 + other))
    assert not watch.due
    refuse(watch, run, 1)
    assert watch.must_pause(MAILING)


def tried(watch, scope, replies):
    """A run tries the provider, and hears so much before it ends."""
    run = Sending(watch)
    watch.begin_probe(scope, run, NOW)
    for reply_class, code in replies:
        outcome = Outcome(1, 1, reply_class, code, None, "", Phase.RCPT, "relay", past_dot=False, provider=PROVIDER)
        watch.heard(outcome, run)
    watch.run_over(run)


def test_trials_that_hear_too_little_decide_together(watch):
    scope = sealed_scope(Sealer(KEYRING), PROVIDER)
    watch.learn({scope: Breaker(scope, OUTAGE, "away", NOW, NOW, 1, NOW)}, NOW)
    gone = (ReplyClass.HARD, 550)
    tried(watch, scope, [gone] * 4)
    assert not watch.due
    tried(watch, scope, [])
    assert not watch.due
    tried(watch, scope, [gone])
    (over,) = watch.due
    assert isinstance(over, ProbeOver)
    assert not over.passed
    # The next one begins anew.
    watch.due.clear()
    tried(watch, scope, [gone] * 4)
    assert not watch.due


@pytest.mark.parametrize("between", ["well", "held again"])
def test_what_trials_have_heard_is_forgotten_with_the_hold(watch, between):
    scope = sealed_scope(Sealer(KEYRING), PROVIDER)
    known = Breaker(scope, OUTAGE, "away", NOW, NOW, 1, NOW)
    watch.learn({scope: known}, NOW)
    tried(watch, scope, [(ReplyClass.HARD, 550)] * 4)
    watch.learn({} if between == "well" else {scope: replace(known, trips=2)}, NOW)
    watch.learn({scope: replace(known, trips=2)}, NOW)
    tried(watch, scope, [(ReplyClass.ACCEPTED, 250)] * 3)
    (over,) = watch.due
    assert over.passed


class Ending(Guard):
    """Of a run that is over: what takes effect is noted, and not asked of a database."""

    def __init__(self, watch):
        super().__init__(watch, None, self, MAILING, [], lambda: 0)
        self.open = False
        self.effects = []

    def now(self):
        return NOW

    async def _transaction(self, work, *, writes=True):
        if not writes:
            return {}
        self.effects.append(work.args[0])
        return True


HELD = ProviderTrip(MAILING, "provider:x", "hard", "550 no such user", NOW)


def test_a_trip_is_repeated_though_the_loop_wakes_up_a_moment_too_early(watch, monkeypatch):
    async def nearly(seconds, sleep=asyncio.sleep):
        await sleep(max(0.0, seconds - 0.003))

    monkeypatch.setattr(watching, "_AGAIN", 0.02)
    monkeypatch.setattr(breaking.asyncio, "sleep", nearly)
    ending = Ending(watch)
    watch.applied(HELD)
    asyncio.run(ending.over({}))
    assert [(one.scope, one.again) for one in ending.effects] == [(HELD.scope, True)]
    assert watch.repeats_in is None


def test_a_trip_that_could_not_be_repeated_in_time_undoes_nothing_in_another_week(watch, monkeypatch):
    ending = Ending(watch)
    watch.applied(HELD)
    now = watching.suspended_monotonic()
    monkeypatch.setattr(watching, "suspended_monotonic", lambda: now + 70)
    asyncio.run(ending.tend())
    assert not ending.effects
    assert not watch.due
