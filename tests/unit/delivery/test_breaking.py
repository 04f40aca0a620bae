"""Breakers through real sessions with a sink: what trips, what follows, what is never done to a reader."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa

from service.delivery import breaking, editions, notices, pacing, resolving
from service.delivery.watch import PolicyTrip, ProviderTrip
from service.domain.delivery import DeliveryState
from service.domain.replies import ReplyClass
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.queue import SEND_BATCH
from service.store import (
    DatabaseAwayError,
    Sealer,
    batches,
    breakers,
    mailings,
    outcomes,
    publication,
    suppressions,
    tables,
)
from service.store.instants import loaded, stored
from tests.conftest import KEYRING
from tests.factories import MADE_AT, OPERATORS, add_readers
from tests.growth import astray, sums
from tests.installation import miscounted
from tests.smtp_sink import Rule, SmtpSink
from tests.unit.delivery.parts import Run, result, wait_for_a_waiter
from tests.unit.delivery.test_batch_run import Worker, recipients, wait_for
from tests.unit.render import samples

# Letters that may be under way when the breaker trips: two connections with a window of four.
IN_FLIGHT = 2 * 4
BLOCKED = "550 5.7.1 our system has detected that this message is spam"
GONE = "550 5.1.1 no such user here"
NO_TIME = dt.timedelta(0)


@pytest.fixture
def sink(tmp_path):
    with SmtpSink(tmp_path / "ledger") as made:
        yield made


def planned(database, *, readers=0, away=0, domain="gmail.com", batch_limit=1000):
    """A mailing with so many readers at a domain each and at one provider, of which operators are told; and the latter.

    A domain each: what is refused to them is no provider's affair.
    """
    run = Run(database, readers=0, chains=("en",), planned=False, batch_limit=batch_limit)
    run.addresses = add_readers(database, readers, chains=("en",), domain="n{}.example.test")
    with database.begin() as session:
        publication.save(session, replace(samples.publication(), operators=OPERATORS), MADE_AT)
    addresses = add_readers(database, away, chains=("en",), prefix="away", domain=domain)
    assert run.planner().plan(run.mailing)
    began(run, 0)
    return run, addresses


def began(run, hours):
    """The mailing began so many hours ago, by the clock of the worker."""
    with run.database.begin() as session:
        at = stored(dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours))
        session.execute(tables.mailings.update().values(started_at=at))


def mailing_of(run):
    with run.database.read() as session:
        return mailings.get(session, run.mailing)


def suppressed(run):
    with run.database.read() as session:
        count = session.scalar(sa.select(sa.func.count()).select_from(tables.suppressions))
        statuses = set(session.execute(sa.select(tables.subscribers.c.status)).scalars())
    return count, statuses


def problems(run):
    """What the operators are told, once for each of the two."""
    with run.database.read() as session:
        rows = session.execute(sa.select(tables.notices.c.parameters).order_by(tables.notices.c.id)).scalars()
        found = [row["problem"] for row in rows]
    return list(dict.fromkeys(found))


def held(run):
    with run.database.read() as session:
        return breakers.every(session)


def send_all(run, tmp_path, sink, ahead=NO_TIME):
    """Send batch after batch, as the sweep and the workers would so much later, until none is due."""
    for _ in range(20):
        due = [number for number in run.batch_ids() if run.batch(number).open]
        before = run.counts()
        for number in due:
            worker = Worker(run, tmp_path, sink)
            worker.clock.ahead = ahead
            worker.send(number)
        if run.counts() == before:
            return


@pytest.mark.parametrize("when", ["RCPT", "MAIL", "DOT"])
def test_refused_by_policy_by_everybody_the_mailing_pauses_itself_and_nobody_is_suppressed(
    database, tmp_path, sink, when
):
    run, _ = planned(database, readers=300)
    sink.set_rules(Rule(when, BLOCKED))

    Worker(run, tmp_path, sink).send()

    found = mailing_of(run)
    assert found.state.value == "paused"
    assert f"127.0.0.1:{sink.port} refuses our mail by policy: 550 5.7.1 our system" in found.reason
    assert f"tydzen mailing resume {run.mailing}" in found.reason
    assert f"tydzen mailing retry {run.mailing}" in found.reason
    counts = run.counts()
    assert 20 <= counts["refused"] <= 20 + IN_FLIGHT
    assert counts["pending"] == 300 - counts["refused"]
    assert suppressed(run) == (0, {SubscriberStatus.ACTIVE.value})
    assert problems(run) == [found.reason]
    assert not miscounted(run.database, run.mailing)

    sink.set_rules()
    run.control("resume")
    run.control("retry")
    assert Worker(run, tmp_path, sink).send()
    assert recipients(sink) == sorted(run.addresses)
    assert run.state() == "sent"


def test_a_breaker_that_trips_while_the_database_is_away_at_the_end_of_the_last_batch_takes_effect_all_the_same(
    database, tmp_path, sink, monkeypatch
):
    run, _ = planned(database, readers=22)
    sink.set_rules(Rule("RCPT", BLOCKED))
    tries, apply = [], breaking.apply

    def once_away(*arguments, **more):
        tries.append(arguments)
        if len(tries) == 1:
            raise DatabaseAwayError("away")
        apply(*arguments, **more)

    monkeypatch.setattr(breaking, "apply", once_away)
    Worker(run, tmp_path, sink).send()

    assert len(tries) == 2
    assert mailing_of(run).state.value == "paused"
    assert problems(run) == [mailing_of(run).reason]


def test_until_a_trip_by_policy_has_taken_effect_no_run_goes_on(sqlite_database, tmp_path, sink, monkeypatch):
    run, _ = planned(sqlite_database, readers=60)
    sink.set_rules(Rule("RCPT", BLOCKED))
    worker, seen, apply = Worker(run, tmp_path, sink), [], breaking.apply

    def looked_at(*arguments, **more):
        seen.append(worker.dispatcher._watch.must_pause(run.mailing))
        apply(*arguments, **more)

    monkeypatch.setattr(breaking, "apply", looked_at)
    worker.send()

    assert set(seen) == {True}
    assert not worker.dispatcher._watch.must_pause(run.mailing)
    assert run.state() == "paused"


def test_what_another_worker_records_as_a_trip_takes_effect_is_taken_back_though_no_batch_follows(
    sqlite_database, tmp_path, sink
):
    run, _ = planned(sqlite_database, away=80, batch_limit=40)
    run.now = dt.datetime.now(dt.UTC)
    tripping, other = [number for number in run.batch_ids() if run.batch(number).provider == "gmail"]
    (refused, *_) = run.gate(run.claim(other)).recipients
    sink.set_rules(Rule("RCPT", GONE, recipient="@gmail.com"))

    def meanwhile():
        wait_for(lambda: held(run))
        time.sleep(1.0)
        run.record(hard(refused))

    Worker(run, tmp_path, sink).send(tripping, meanwhile)

    assert suppressed(run) == (0, {SubscriberStatus.ACTIVE.value})


def test_a_few_refusals_by_policy_among_many_do_not_stop_a_mailing(sqlite_database, tmp_path, sink):
    run, _ = planned(sqlite_database, readers=300)
    sink.set_rules(Rule("RCPT", BLOCKED, recipient="reader1", times=15))
    Worker(run, tmp_path, sink).send()
    assert run.counts() == {"accepted": 285, "refused": 15}
    assert run.state() == "sent"
    assert problems(run) == []


def test_a_refusal_by_policy_in_each_batch_that_is_taken_otherwise_does_not_stop_a_mailing(
    sqlite_database, tmp_path, sink
):
    run, _ = planned(sqlite_database, readers=22 * 30, batch_limit=30)
    worker = Worker(run, tmp_path, sink, connections=1)

    async def one_after_the_other():
        for number in run.batch_ids():
            sink.set_rules(Rule("RCPT", BLOCKED, times=1))
            await worker.dispatcher.send_batch(number)
        await worker.lines.close()

    asyncio.run(one_after_the_other())
    worker.dispatcher.offload.close()

    assert run.state() == "sent"
    assert run.counts() == {"accepted": 22 * 29, "refused": 22}
    assert problems(run) == []


def test_whoever_says_later_to_everybody_trips_nothing(sqlite_database, tmp_path, sink):
    run, _ = planned(sqlite_database, readers=300)
    sink.set_rules(Rule("RCPT", "451 4.7.1 later, please"))
    Worker(run, tmp_path, sink).send()
    assert run.state() == "sending"
    assert run.counts() == {"deferred": 300}
    assert held(run) == {}
    assert problems(run) == []


def test_a_provider_that_denies_every_mailbox_is_left_alone_and_nobody_there_is_suppressed(database, tmp_path, sink):
    run, away = planned(database, readers=100, away=150)
    sink.set_rules(Rule("RCPT", GONE, recipient="@gmail.com"))

    send_all(run, tmp_path, sink)

    assert recipients(sink) == sorted(run.addresses)
    assert run.counts() == {"accepted": 100, "deferred": 150}
    assert run.state() == "sending"
    assert suppressed(run) == (0, {SubscriberStatus.ACTIVE.value})
    (breaker,) = held(run).values()
    assert (breaker.scope, breaker.kind, breaker.trips) == ("provider:gmail", "outage", 1)
    assert breaker.until - breaker.since == dt.timedelta(hours=1)
    (problem,) = problems(run)
    assert problem.startswith("the provider gmail is left alone until")
    assert "550 5.1.1 no such user here" in problem
    assert not miscounted(run.database, run.mailing)

    # An hour later, and the provider is well again.
    sink.set_rules()
    hours_pass(run)
    send_all(run, tmp_path, sink)
    assert held(run)["provider:gmail"].kind == "proven"
    hours_pass(run)
    send_all(run, tmp_path, sink)
    assert recipients(sink) == sorted([*run.addresses, *away])
    assert run.state() == "sent"


def hours_pass(run, ago=0):
    """Whatever waits for a time has waited long enough, and holds have been over for so many hours."""
    soon = {"until": stored(dt.datetime.now(dt.UTC) - dt.timedelta(hours=ago)) - 1}
    with run.database.begin() as session:
        session.execute(breakers.breakers.update().where(breakers.breakers.c.kind != "proven").values(soon))
        session.execute(tables.deliveries.update().where(tables.deliveries.c.due_at > 0).values(due_at=1))
        session.execute(tables.batches.update().values(due_at=0, not_before=0))


def test_a_provider_that_is_no_better_after_the_hold_is_left_alone_for_twice_as_long(sqlite_database, tmp_path, sink):
    run, _ = planned(sqlite_database, away=150, domain="lonely.example")
    sink.set_rules(Rule("RCPT", GONE + " at lonely.example", recipient="@lonely.example"))
    send_all(run, tmp_path, sink)
    (first,) = held(run).values()
    tried = len([line for line in sink.commands if line.startswith("RCPT")])

    hours_pass(run)
    send_all(run, tmp_path, sink)

    (breaker,) = held(run).values()
    assert breaker.trips == 2
    assert breaker.until - breaker.since == dt.timedelta(hours=2)
    assert len([line for line in sink.commands if line.startswith("RCPT")]) - tried == 10
    assert run.counts() == {"deferred": 150}
    assert suppressed(run) == (0, {SubscriberStatus.ACTIVE.value})
    # The domain itself is not told.
    assert breaker.scope == first.scope
    assert breaker.scope.startswith("provider:d-")
    assert not [text for text in (first.reason, breaker.reason, *problems(run)) if "lonely" in text]


@pytest.mark.slow
def test_a_provider_that_stays_away_for_two_days_keeps_no_mailing_open(sqlite_database, tmp_path, sink):
    stay_away_for_two_days(sqlite_database, tmp_path, sink, readers=20, away=150, batch_limit=40)


def stay_away_for_two_days(database, tmp_path, sink, *, readers, away, batch_limit=1000):
    """One provider refuses `away` readers for two days, and then everybody gets the mail after all."""
    run, waiting = planned(database, readers=readers, away=away, batch_limit=batch_limit)
    sink.set_rules(Rule("RCPT", GONE, recipient="@gmail.com"))
    send_all(run, tmp_path, sink)
    assert recipients(sink) == sorted(run.addresses)
    counts = run.counts()
    assert counts.pop("accepted") == readers
    # Whom nobody has tried while the provider is left alone is pending.
    assert (set(counts) | {"pending"}, sum(counts.values())) == ({"deferred", "pending"}, away)
    assert run.state() == "sending"

    passed = from_one_time_to_the_next(run, tmp_path, sink)
    assert dt.timedelta(hours=47) < passed < dt.timedelta(hours=50)
    assert run.counts() == {"accepted": readers, "expired": away}
    assert run.state() == "sent"
    assert reasons(run) == {None: readers, "provider left alone": away}
    assert suppressed(run) == (0, {SubscriberStatus.ACTIVE.value})
    assert not miscounted(run.database, run.mailing)

    # The mailing began two days ago; what is retried while the provider is still left alone waits for it.
    run.now = dt.datetime.now(dt.UTC) + passed
    assert held(run)["provider:gmail"].until > run.now
    assert run.control("retry") == away
    send_all(run, tmp_path, sink, passed)
    assert run.counts() == {"accepted": readers, "deferred": away}

    sink.set_rules()
    for _ in range(2):
        hours_pass(run)
        send_all(run, tmp_path, sink, passed)
    assert recipients(sink) == sorted([*run.addresses, *waiting])


HOURS = dt.timedelta(hours=1)


def leave_alone(run, *hours):
    """The provider was left alone so many hours ago each, and nothing showed meanwhile that it is well."""
    for ago in hours:
        now = dt.datetime.now(dt.UTC) - ago * HOURS
        trip = ProviderTrip(run.mailing, "provider:gmail", breakers.OUTAGE, "an outage", now)
        with run.database.begin() as session:
            breaking.apply(session, run.bell, trip, now=now)


def test_a_provider_that_fails_days_after_a_mailing_began_loses_nobody(sqlite_database, tmp_path, sink):
    run, away = planned(sqlite_database, away=40)
    # It was paused over a weekend, or waits for the caps of a warm-up.
    began(run, 60)
    sink.set_rules(Rule("RCPT", GONE, recipient="@gmail.com"))
    send_all(run, tmp_path, sink)
    assert run.counts() == {"deferred": 40}

    sink.set_rules()
    for _ in range(2):
        hours_pass(run)
        send_all(run, tmp_path, sink)
    assert recipients(sink) == sorted(away)
    assert run.state() == "sent"


@pytest.mark.parametrize("verb", ["retry", "resume"])
def test_a_provider_that_is_away_for_two_days_is_waited_for_no_longer_unless_an_operator_sets_the_mailing_going(
    sqlite_database, tmp_path, sink, verb
):
    run, _ = planned(sqlite_database, away=3)
    began(run, 60)
    # Holds of 1, 2, 4 … 16 hours, and the one that is open ends beyond the two days.
    leave_alone(run, 47, 45, 42, 37, 28, 11, 0)
    run.now = dt.datetime.now(dt.UTC)
    if verb == "resume":
        run.control("pause")
        run.control("resume")
    else:
        send_all(run, tmp_path, sink, HOURS)
        assert run.counts() == {"expired": 3}
        assert reasons(run) == {"provider left alone": 3}
        assert run.control("retry") == 3
    send_all(run, tmp_path, sink)
    assert run.counts() == {"deferred": 3}


def test_the_batches_of_a_provider_that_is_away_may_be_claimed_when_they_are_to_be_given_up(sqlite_database):
    run, _ = planned(sqlite_database, away=80, batch_limit=40)
    number = next(one for one in run.batch_ids() if run.batch(one).provider == "gmail")
    began(run, 60)
    leave_alone(run, 40, 38, 35, 30, 20, 3)
    # Sixteen hours are left of the hold, and eight of the two days.
    end = loaded(run.batch(number).not_before) - dt.datetime.now(dt.UTC)
    assert 7.9 * HOURS < end < 8.1 * HOURS

    began(run, 44)
    hours_pass(run, 25)
    leave_alone(run, 0)
    # Its last hold is over for long: it is left alone for the whole of this one, whatever the mailing has behind it.
    assert loaded(run.batch(number).not_before) == held(run)["provider:gmail"].until


def test_a_batch_that_ends_beside_a_trial_of_a_provider_neither_decides_nor_ends_it(sqlite_database, tmp_path, sink):
    run, _ = planned(sqlite_database, readers=2, away=60, batch_limit=60)
    other, gmail = sorted(run.batch_ids(), key=lambda number: run.batch(number).provider)
    assert run.batch(gmail).provider == "gmail"
    leave_alone(run, 2)
    with run.database.begin() as session:
        session.execute(tables.batches.update().values(not_before=0))
    # The first mailbox that is tried is gone; the nine others take their letters when the others' batch is over.
    sink.set_rules(
        Rule("RCPT", GONE, recipient="@gmail.com", times=1),
        Rule("DOT", delay=3.0, recipient="@gmail.com"),
        Rule("DOT", delay=1.0, recipient="example.test"),
    )

    Worker(run, tmp_path, sink, follow=10.0, connections=8).send(other)

    breaker = held(run)["provider:gmail"]
    assert (breaker.kind, breaker.trips) == ("proven", 1)
    assert run.batch(other).accepted == 2


def scope_of(database, provider):
    return breakers.sealed_scope(database.sealer, provider)


def test_a_trial_that_came_to_nothing_is_forgotten_after_a_day(sqlite_database):
    run, _ = planned(sqlite_database, away=1, domain="firm.example.test")
    scope, now = scope_of(run.database, "firm.example.test"), run.now
    with run.database.begin() as session:
        breakers.hold_provider(session, scope, "outage", "away", now=now)
        tried_at = now + dt.timedelta(hours=1)
        assert breakers.take_probe(session, scope, now=tried_at, until=tried_at)
    for hours, forgotten in ((24, False), (26, True)):
        then = now + dt.timedelta(hours=hours)
        assert held(run)[scope].closed(then) == forgotten
        with run.database.begin() as session:
            assert (breakers.away_since(session, "firm.example.test", then) is None) == forgotten
            assert breakers.prune(session, now=then) == forgotten


def test_a_provider_that_takes_a_few_letters_and_refuses_again_within_the_day_has_been_away_since_the_first_time(
    sqlite_database,
):
    run, _ = planned(sqlite_database, away=1)
    scope, now = scope_of(run.database, "gmail.com"), run.now

    def trip(hours):
        with run.database.begin() as session:
            at = now + dt.timedelta(hours=hours)
            return breakers.hold_provider(session, scope, "outage", "away", now=at)[0].away

    def prove(hours):
        with run.database.begin() as session:
            breakers.prove(session, scope, now=now + dt.timedelta(hours=hours))

    assert trip(0) == now
    prove(1)
    assert trip(20) == now
    prove(22)
    assert trip(47) == now + dt.timedelta(hours=47)


def test_a_trip_of_a_mailing_that_the_database_does_not_know_any_more_stops_nobody_else(
    sqlite_database, tmp_path, sink
):
    run, _ = planned(sqlite_database, readers=4)
    worker = Worker(run, tmp_path, sink)
    watch = worker.dispatcher._watch
    since = dt.datetime.now(dt.UTC)
    watch.due += [
        PolicyTrip(999, "the relay refuses our mail by policy"),
        ProviderTrip(999, scope_of(run.database, "gmail.com"), "outage", "it refused all", since),
    ]
    worker.send()
    assert run.counts() == {"accepted": 4}
    assert not any(isinstance(trip, PolicyTrip) for trip in watch.due)
    assert [one.kind for one in held(run).values()] == ["outage"]


def test_what_is_taken_back_once_more_begins_no_hold_of_its_own(sqlite_database):
    run, _ = planned(sqlite_database, away=1)
    scope, now = scope_of(run.database, "gmail.com"), run.now
    trip = ProviderTrip(run.mailing, scope, "outage", "it refused all", now)

    def apply(trip, minutes):
        with run.database.begin() as session:
            breaking.apply(session, run.bell, trip, now=now + dt.timedelta(minutes=minutes))

    apply(trip, 0)
    first = held(run)[scope]
    apply(replace(trip, again=True), 61)
    assert held(run)[scope] == first
    assert len(problems(run)) == 1


def test_what_the_policy_sends_again_gives_nothing_else_another_two_days(sqlite_database):
    run = Run(sqlite_database, readers=2)
    (letter, _) = run.gate(run.claim()).recipients
    run.record(result(letter, DeliveryState.UNCERTAIN))
    before = mailing_begun(run)
    run.now += dt.timedelta(hours=1)
    with run.database.begin() as session:
        assert resolving.resend_once(session, run.bell, now=run.now) == 1
    assert mailing_begun(run) == before
    run.control("pause")
    run.control("resume")
    assert mailing_begun(run) != before


def mailing_begun(run):
    with run.database.read() as session:
        return session.scalar(sa.select(mailings.BEGUN).where(tables.mailings.c.id == run.mailing))


def test_a_mailing_that_was_retried_before_it_was_planned_has_its_two_days_from_its_beginning(sqlite_database):
    run, _ = planned(sqlite_database, away=80, batch_limit=40)
    number = next(one for one in run.batch_ids() if run.batch(one).provider == "gmail")
    began(run, 30)
    with run.database.begin() as session:
        mailings.begin_anew(session, run.mailing, dt.datetime.now(dt.UTC) - 50 * HOURS)
    leave_alone(run, 40, 38, 35, 30, 20, 3)
    end = loaded(run.batch(number).not_before) - dt.datetime.now(dt.UTC)
    assert 17.9 * HOURS < end < 18.1 * HOURS


def test_a_limit_that_is_set_lets_go_what_a_spent_day_keeps_and_neither_held_providers_nor_editions_set_aside(
    database,
):
    run, _ = planned(database, readers=80, away=80, batch_limit=40)
    now = dt.datetime.now(dt.UTC)
    leave_alone(run, 0)
    spent, set_aside = [number for number in run.batch_ids() if not run.batch(number).provider]
    gmail = [number for number in run.batch_ids() if run.batch(number).provider == "gmail"]
    of, tonight, in_a_minute = tables.batches.c.id, stored(now + 13 * HOURS), stored(now + HOURS / 60)
    with database.begin() as session:
        session.execute(tables.batches.update().where(of.in_([spent, gmail[1]])).values(not_before=tonight))
        aside = tables.batches.update().where(of == set_aside)
        session.execute(aside.values(not_before=in_a_minute, rendition_id=None))

    with database.begin() as session:
        pacing.change(session, run.bell, "relay:sink:25", {"connections": 3}, actor="test", now=now)

    until = stored(held(run)["provider:gmail"].until)
    assert {number: run.batch(number).not_before for number in run.batch_ids()} == {
        spent: 0,
        set_aside: in_a_minute,
        **dict.fromkeys(gmail, until),
    }
    assert run.bell.heard(SEND_BATCH)[-1:] == [spent]


def test_a_letter_that_an_operator_retries_days_later_may_be_put_off_as_any_other(sqlite_database, tmp_path, sink):
    run, _ = planned(sqlite_database, away=3)
    sink.set_rules(Rule("RCPT", "451 4.7.1 later, please"))
    send_all(run, tmp_path, sink)
    with run.database.begin() as session:
        session.execute(tables.attempts.update().values(at=tables.attempts.c.at - 60 * 3_600_000))
    assert run.control("retry") == 3
    send_all(run, tmp_path, sink)
    assert run.counts() == {"deferred": 3}


def from_one_time_to_the_next(run, tmp_path, sink):
    """Let an hour go by, or the time to when a batch is due, and so on until the mailing has ended; how much it was."""
    began_at, ahead = dt.datetime.now(dt.UTC), NO_TIME
    while times := [max(row.due_at, row.not_before) for row in map(run.batch, run.batch_ids()) if row.open]:
        due_in = loaded(min(times)) - dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
        ahead = max(ahead + dt.timedelta(hours=1), due_in)
        send_all(run, tmp_path, sink, ahead)
    return dt.datetime.now(dt.UTC) + ahead - began_at


def reasons(run):
    """How many deliveries have come to their end for which reason."""
    d = tables.deliveries
    with run.database.read() as session:
        return dict(session.execute(sa.select(d.c.reason, sa.func.count()).group_by(d.c.reason)).all())


def test_once_a_provider_has_shown_that_it_takes_mail_its_refusals_are_believed(sqlite_database, tmp_path, sink):
    run, _ = planned(sqlite_database, away=400)
    # One in ten has left long ago.
    sink.set_rules(Rule("RCPT", GONE, recipient="0@gmail.com"))

    for _ in range(4):
        send_all(run, tmp_path, sink)
        hours_pass(run)

    assert run.counts() == {"accepted": 360, "refused": 40}
    assert suppressed(run)[0] == 40
    assert run.state() == "sent"
    assert held(run)["provider:gmail"].trips == 1


def test_what_is_taken_back_is_only_what_the_refusals_did(database):
    run, _ = planned(database, readers=4, away=4)
    claim = run.claim()
    gated = run.gate(claim).recipients
    run.record(
        *(
            result(one, DeliveryState.REFUSED, outcome=ReplyClass.HARD.value, reason="hard", code=550, suppress=True)
            for one in gated
        )
    )
    # One of them has complained besides, and must stay suppressed.
    complained = next(one for one in gated if one.address == "away1@gmail.com")
    with database.begin() as session:
        hashed = session.sealer.address_hash(complained.address)
        suppressions.add(session, hashed, SuppressionReason.COMPLAINED, Week.parse("2019-W22"))
        changes = breakers.disbelieve(
            session, "provider:gmail", since=run.now - dt.timedelta(minutes=1), due=run.now, now=run.now
        )
        assert changes == 4
        again = breakers.disbelieve(
            session, "provider:gmail", since=run.now - dt.timedelta(minutes=1), due=run.now, now=run.now
        )
        assert again == 0
    assert run.counts() == {"refused": 4, "deferred": 4}
    assert suppressed(run)[0] == 5
    assert not miscounted(database, run.mailing)
    # Eight were sent away, and four of them are mailed again.
    counted = [(change, readers) for sums_of in sums(database).values() for change, readers in sums_of.items()]
    assert sum(readers for change, readers in counted if change == "bounced") == 8
    assert sum(readers for change, readers in counted if change == "lifted") == 4
    with database.read() as session:
        assert astray(session) == {}


@pytest.mark.parametrize("key", [2, 1], ids=["its-key-is-missing-here", "damaged"])
def test_a_refused_reader_whose_address_does_not_open_here_does_not_break_the_breaker(database, tmp_path, sink, key):
    run, _ = planned(database, away=150)
    run.now = dt.datetime.now(dt.UTC)
    # Another host, which has the newest key, was refused a moment ago.
    claim = run.claim()
    (refused,) = run.gate(claim, run.due(claim)[:1]).recipients
    run.record(
        result(refused, DeliveryState.REFUSED, outcome=ReplyClass.HARD.value, reason="hard", code=550, suppress=True)
    )
    run.give_back(claim)
    with database.begin() as session:
        sealed = bytes((key,)) + Sealer(KEYRING).seal(refused.subscriber, refused.address)[1:-1] + b"?"
        his = tables.subscribers.c.id == refused.subscriber
        session.execute(tables.subscribers.update().where(his).values(sealed=sealed))
    sink.set_rules(Rule("RCPT", GONE, recipient="@gmail.com"))

    send_all(run, tmp_path, sink)

    # His provider is known without his address.
    assert run.counts() == {"deferred": 150}
    assert suppressed(run) == (0, {SubscriberStatus.ACTIVE.value})
    assert held(run)["provider:gmail"].trips == 1
    assert not miscounted(run.database, run.mailing)


def relay_row(run, sink):
    return held(run).get(f"relay:127.0.0.1:{sink.port}")


def test_a_password_that_is_refused_costs_no_reader_and_is_not_tried_again_and_again(
    sqlite_database, tmp_path, sink, monkeypatch
):
    monkeypatch.setattr("service.mail.opener._LOCKED_OUT", (3.0, 60.0))
    monkeypatch.setattr("service.delivery.breaking.RELAYS_DOWN", dt.timedelta(seconds=1))
    run, _ = planned(sqlite_database, readers=60)
    # It was changed at the relay, and not here yet.
    sink.settings.users["weekly"] = "new"
    url = f"smtp://weekly:old@127.0.0.1:{sink.port}?tls=none&connections=2"
    worker = Worker(run, tmp_path, sink, urls=url)
    seen = []

    def meanwhile():
        wait_for(lambda: problems(run), 20)
        seen.append((relay_row(run, sink), sink.counts["login-in-clear"], run.counts()))
        sink.settings.users["weekly"] = "old"

    worker.send(meanwhile=meanwhile)

    row, logins, counts = seen[0]
    assert row.kind == "auth"
    assert "535" in row.reason
    assert logins <= 2
    assert counts == {"pending": 60}
    (problem,) = problems(run)
    assert problem.startswith("no relay takes mail since")
    assert "535" in problem
    assert run.counts() == {"accepted": 60}
    assert run.state() == "sent"
    assert relay_row(run, sink) is None
    assert suppressed(run) == (0, {SubscriberStatus.ACTIVE.value})


def test_a_login_that_is_wanted_before_the_first_letter_uses_nothing_up_and_is_mended_by_itself(
    database, tmp_path, sink, monkeypatch
):
    monkeypatch.setattr("service.mail.opener._LOCKED_OUT", (1.0, 2.0))
    monkeypatch.setattr("service.delivery.breaking.RELAYS_DOWN", dt.timedelta(seconds=1))
    run, _ = planned(database, readers=60)
    # It lets in, and then wants a login for each letter.
    sink.set_rules(Rule("MAIL", "530 5.7.0 authentication required"))
    worker = Worker(run, tmp_path, sink)
    seen = []

    def meanwhile():
        # After each wait one letter is tried, and all that time the relay is in trouble.
        wait_for(lambda: problems(run), 20)
        tried = sum(command.startswith("MAIL") for command in list(sink.commands))
        wait_for(lambda: sum(command.startswith("MAIL") for command in list(sink.commands)) > tried, 20)
        seen.append((relay_row(run, sink), run.counts(), attempts_made(run)))
        sink.set_rules()

    worker.send(meanwhile=meanwhile)

    row, counts, made = seen[0]
    assert row.kind == "auth"
    assert "the relay wants a login: 530" in row.reason
    assert set(counts) <= {"pending", "attempting"}
    assert made == 0
    (problem,) = problems(run)
    assert problem.startswith("no relay takes mail since")
    assert run.counts() == {"accepted": 60}
    assert run.state() == "sent"
    assert attempts_made(run) == 0
    assert relay_row(run, sink) is None


def attempts_made(run):
    with run.database.read() as session:
        return session.execute(sa.select(sa.func.count()).select_from(tables.attempts)).scalar_one()


def test_while_no_relay_takes_mail_the_letters_wait_and_the_operators_are_told_once(
    database, tmp_path, sink, monkeypatch
):
    monkeypatch.setattr("service.delivery.breaking.RELAYS_DOWN", dt.timedelta(seconds=2))
    run, _ = planned(database, readers=60)
    worker = Worker(run, tmp_path, sink)
    sink.stop()
    waited = []

    def meanwhile():
        wait_for(lambda: problems(run), 20)
        waited.append((relay_row(run, sink), run.counts()))
        sink.start()

    worker.send(meanwhile=meanwhile)

    row, counts = waited[0]
    assert row.kind == "down"
    assert counts == {"pending": 60}
    (problem,) = problems(run)
    assert problem.startswith("no relay takes mail since")
    assert f"127.0.0.1:{sink.port}" in problem
    assert run.counts() == {"accepted": 60}
    assert relay_row(run, sink) is None


def test_that_no_relay_takes_mail_is_told_once_however_many_mailings_wait(sqlite_database):
    run, _ = planned(sqlite_database, readers=2)
    other = Run(sqlite_database, readers=0, planned=False, week="2019-W23")
    with sqlite_database.begin() as session:
        publication.save(session, replace(samples.publication(), operators=OPERATORS), MADE_AT)
    told = []
    # Once more when it was well in between.
    for since in (run.now, run.now + HOURS):
        for one in (run, other, run):
            with sqlite_database.begin() as session:
                until = since + HOURS / 2
                down = breakers.note_trouble(session, "relay:sink:25", "down", "away", now=since, until=until)
                later = since + breaking.RELAYS_DOWN
                breaking.relays_down(session, run.bell, one.mailing, [down], now=later)
                told.append(session.scalar(sa.select(sa.func.count()).select_from(tables.notices)))
    assert told == [len(OPERATORS)] * 3 + [2 * len(OPERATORS)] * 3


def test_an_edition_that_cannot_be_printed_waits_and_the_others_are_served_before_the_mailing_pauses(
    database, tmp_path, sink, monkeypatch
):
    run, _ = planned(database, readers=20)
    run.change_reader(3, chain="ru,en")
    printed = editions.freeze

    def broken(session, mailing, content, chain, press, *, now):
        if chain == "ru,en":
            raise editions.UnprintableError("the ru,en edition of 2019-W22 cannot be mailed: an image is missing")
        return printed(session, mailing, content, chain, press, now=now)

    monkeypatch.setattr(editions, "freeze", broken)
    send_all(run, tmp_path, sink)

    assert run.counts() == {"accepted": 19, "pending": 1}
    found = mailing_of(run)
    assert found.state.value == "paused"
    assert "the ru,en edition of 2019-W22 cannot be mailed: an image is missing" in found.reason
    assert problems(run) == [found.reason]

    monkeypatch.setattr(editions, "freeze", printed)
    run.control("resume")
    send_all(run, tmp_path, sink)
    assert recipients(sink) == sorted(run.addresses)
    assert run.state() == "sent"


def test_a_notice_that_is_refused_by_policy_is_told_once_the_fault_is_mended():
    now = dt.datetime(2019, 6, 3, tzinfo=dt.UTC)
    state, due = notices.result(ReplyClass.POLICY, made_at=now, attempt=1, now=now)
    assert state is DeliveryState.DEFERRED
    assert due > now


def test_what_is_taken_back_is_of_every_mailing_that_the_provider_refused(database):
    run, _ = planned(database, away=3)
    other = Run(database, readers=0, chains=("en",), planned=False, week="2019-W23")
    assert other.planner().plan(other.mailing)
    for one in (run, other):
        with database.read() as session:
            of_it = sa.select(tables.batches.c.id).where(tables.batches.c.mailing_id == one.mailing)
            claim = one.claim(session.scalar(of_it))
        # Whom the first has refused is not mailed by the second.
        one.record(*(hard(each) for each in one.gate(claim).recipients[:2]))
    assert suppressed(run)[0] == 3

    trip = ProviderTrip(run.mailing, "provider:gmail", breakers.OUTAGE, "an outage", run.now)
    with database.begin() as session:
        breaking.apply(session, run.bell, trip, now=run.now)

    assert suppressed(run) == (0, {SubscriberStatus.ACTIVE.value})
    assert run.counts()["deferred"] + other.counts()["deferred"] == 3
    assert not miscounted(database, run.mailing)
    assert not miscounted(database, other.mailing)


def test_a_reader_whom_another_mailing_asks_about_at_that_moment_locks_nobody_out(postgresql_database):
    database = postgresql_database
    run, _ = planned(database, away=2)
    other = Run(database, readers=0, chains=("en",), planned=False, week="2019-W23")
    assert other.planner().plan(other.mailing)
    claims = [one.claim(batch) for one, batch in zip((run, other), run.batch_ids(), strict=True)]
    first, second = (one.gate(claim).recipients for one, claim in zip((run, other), claims, strict=True))
    asked = first[0]
    (same,) = (one for one in second if one.address == asked.address)
    (another,) = (one for one in second if one.address != asked.address)
    run.record(hard(asked))
    other.record(hard(another))

    def disbelieve():
        with database.begin() as session:
            since = run.now - dt.timedelta(minutes=1)
            return breakers.disbelieve(session, "provider:gmail", since=since, due=run.now, now=run.now)

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as session:
            # As whoever records does: the batch, and then the reader.
            batches.hold(session, claims[1].batch)
            undone = pool.submit(disbelieve)
            wait_for_a_waiter(database)
            outcomes.record(session, [hard(same)], now_ms=stored(run.now))
        assert undone.result() == 2

    assert (run.counts()["deferred"], other.counts()["deferred"]) == (1, 1)
    assert not miscounted(database, other.mailing)


def hard(recipient):
    return result(recipient, DeliveryState.REFUSED, outcome="hard", reason="hard", code=550, suppress=True)
