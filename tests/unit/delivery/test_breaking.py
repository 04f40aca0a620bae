"""Breakers through real sessions with a sink: what trips, what follows, what is never done to a reader."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
import sqlalchemy as sa

from service.delivery import breaking, editions, notices
from service.delivery.watch import ProviderTrip
from service.domain.delivery import DeliveryState
from service.domain.replies import ReplyClass
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.store import DatabaseAwayError, Sealer, breakers, mailings, publication, suppressions, tables
from service.store.instants import loaded, stored
from tests.conftest import KEYRING
from tests.factories import MADE_AT, OPERATORS, add_readers
from tests.growth import astray, sums
from tests.installation import miscounted
from tests.smtp_sink import Rule, SmtpSink
from tests.unit.delivery.parts import Run, result
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


def test_a_few_refusals_by_policy_among_many_do_not_stop_a_mailing(sqlite_database, tmp_path, sink):
    run, _ = planned(sqlite_database, readers=300)
    sink.set_rules(Rule("RCPT", BLOCKED, recipient="reader1", times=15))
    Worker(run, tmp_path, sink).send()
    assert run.counts() == {"accepted": 285, "refused": 15}
    assert run.state() == "sent"
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


def hours_pass(run):
    """Whatever waits for a time has waited long enough."""
    soon = {"until": 0}
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

    sink.set_rules()
    hours_pass(run)
    began(run, 0)
    assert run.control("retry") == away
    for _ in range(2):
        send_all(run, tmp_path, sink)
        hours_pass(run)
    assert recipients(sink) == sorted([*run.addresses, *waiting])


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
    run, _ = planned(sqlite_database, readers=60)
    # It was changed at the relay, and not here yet.
    sink.settings.users["weekly"] = "new"
    url = f"smtp://weekly:old@127.0.0.1:{sink.port}?tls=none&connections=2"
    worker = Worker(run, tmp_path, sink, urls=url)
    seen = []

    def meanwhile():
        wait_for(lambda: relay_row(run, sink) is not None)
        seen.append((relay_row(run, sink), sink.counts["login-in-clear"], run.counts()))
        sink.settings.users["weekly"] = "old"

    worker.send(meanwhile=meanwhile)

    row, logins, counts = seen[0]
    assert row.kind == "auth"
    assert "535" in row.reason
    assert logins <= 2
    assert counts == {"pending": 60}
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


def hard(recipient):
    return result(recipient, DeliveryState.REFUSED, outcome="hard", reason="hard", code=550, suppress=True)
