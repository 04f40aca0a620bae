"""Who got which mailing is forgotten after 30 days, what relays said after 7; the sums stay."""

import datetime as dt

import pytest
import sqlalchemy as sa

from service.delivery import control, progress, retention
from service.delivery.recovery import Recovery
from service.delivery.sweep import Sweep
from service.domain.chains import Chain
from service.domain.delivery import DeliveryState
from service.domain.errors import ConflictError
from service.domain.mailing import MailingState
from service.domain.subscriber import RequestPurpose, SubscriberStatus
from service.domain.weeks import Week
from service.store import confirmations, interventions, ledger, mailings, notices, requests, subscribers, tables
from service.store.engine_tables import bounces
from service.store.instants import stored
from tests.unit.delivery.parts import Run, accepted, books, result
from tests.unit.delivery.test_interventions import stop_planning


@pytest.fixture
def run(database):
    """A mailing that has ended: eight were reached, two were refused with words."""
    made = Run(database, readers=10)
    claim = made.claim()
    gated = made.gate(claim).recipients
    made.record(*(accepted(one) for one in gated[:8]))
    made.record(*(result(one, DeliveryState.REFUSED, reply="no such user", code=550) for one in gated[8:]))
    made.give_back(claim)
    with database.begin() as session:
        progress.finish(session, made.mailing, now=made.now)
    assert made.state() == "sent"
    return made


def later(run, **by):
    return run.now + dt.timedelta(**by)


def readers_known(run):
    with run.database.read() as session:
        named = tables.deliveries.c.subscriber_id.is_not(None)
        return session.scalar(sa.select(sa.func.count()).select_from(tables.deliveries).where(named))


def replies(run):
    with run.database.read() as session:
        return [row.reply for row in session.execute(sa.select(tables.attempts.c.reply))]


def rehearsed(run, now):
    with run.database.read() as session:
        return retention.rehearse(session, now=now)


def test_links_from_readers_to_deliveries_are_cut_thirty_days_after_the_mailing_ended(run):
    assert retention.run(run.database, now=later(run, days=29)).links == 0
    assert readers_known(run) == 10

    counted = run.counts()
    now = later(run, days=31)
    assert rehearsed(run, now).links == 10
    found = retention.run(run.database, now=now)
    assert (found.mailings, found.links) == (1, 10)
    assert readers_known(run) == 0
    assert run.counts() == counted == {"accepted": 8, "refused": 2}
    with run.database.read() as session:
        assert [entry.subscriber for entry in ledger.lines(session, run.mailing)] == [None] * 10
    assert retention.run(run.database, now=now) == retention.Forgotten()


def test_words_of_replies_are_forgotten_after_seven_days_and_the_rest_after_thirty(run):
    retention.run(run.database, now=later(run, days=6))
    assert replies(run) == ["no such user", "no such user"]
    assert rehearsed(run, later(run, days=8)).replies == 2
    assert retention.run(run.database, now=later(run, days=8)).replies == 2
    assert replies(run) == [None, None]
    retention.run(run.database, now=later(run, days=31))
    assert replies(run) == []


def kept(session, number, now):
    """One more of each kind of what is kept of readers for a time."""
    reader = subscribers.add(
        session,
        f"r{number}@kept.test",
        Chain(("en",)),
        status=SubscriberStatus.PENDING,
        consent=None,
        week=Week(2019, 23),
    )
    confirmations.add(session, reader.address_hash, reader.chain, text_version=1, now=now)
    away = subscribers.add(
        session,
        f"a{number}@kept.test",
        Chain(("en",)),
        status=SubscriberStatus.ACTIVE,
        consent="test",
        week=Week(2019, 23),
    )
    subscribers.set_pause(session, away.id, now.date() + dt.timedelta(days=1))
    requests.add(session, away.id, 0, RequestPurpose.DATA, now=now)
    once = {"once": f"m:{number}", "address": "a@kept.test", "language": "en", "parameters": {}}
    notice = notices.add(session, "slot-missed", **once, now=now)
    held = notices.claim(session, notice, sender=1, lease_seconds=60)
    notices.pass_gate(session, held, sender=1, now=now)
    notices.record(session, notice, 1, DeliveryState.ACCEPTED, due_at=now)
    # One that was answered goes without being counted among the unanswered.
    other = session.sealer.address_hash(f"c{number}@kept.test")
    confirmations.add(session, other, reader.chain, text_version=1, now=now)
    confirmations.close(session, other)


KEPT = {"sign_ups": 14, "requests": 7, "pauses": 7, "notices": 7}
TABLES = (tables.confirmations, tables.requests, tables.notices)


@pytest.fixture
def old(run, monkeypatch):
    """Seven of everything that is kept for a time, and more than one transaction of it."""
    monkeypatch.setattr(retention, "_CHUNK", 3)
    with run.database.begin() as session:
        for number in range(7):
            kept(session, number, run.now)
    return run


def counts_of(forgotten):
    return {name: getattr(forgotten, name) for name in KEPT}


def test_all_that_is_due_is_forgotten_at_once_and_counted_before(old):
    assert rehearsed(old, later(old, hours=5)) == retention.run(old.database, now=later(old, hours=5))
    now = later(old, days=40)
    expected = rehearsed(old, now)
    assert counts_of(expected) == KEPT
    assert retention.run(old.database, now=now) == expected
    with old.database.read() as session:
        left = {one.name: session.execute(sa.select(one)).all() for one in TABLES}
        paused = session.scalar(sa.select(sa.func.count(tables.subscribers.c.paused_until)))
        pending = session.scalar(
            sa.select(sa.func.count()).where(tables.subscribers.c.status == SubscriberStatus.PENDING.value)
        )
    # Of an address that never answered, a count stays.
    assert {row.state for row in left.pop("confirmations")} == {"lapsed"}
    assert (left, paused, pending) == ({"requests": [], "notices": []}, 0, 0)
    assert retention.run(old.database, now=now) == rehearsed(old, now) == retention.Forgotten()


@pytest.mark.parametrize(("kind", "hours"), [("requests", 25), ("pauses", 24), ("sign_ups", 73), ("notices", 30 * 24)])
def test_each_kind_is_due_when_its_own_time_is_over(old, kind, hours):
    before, after = (counts_of(rehearsed(old, later(old, hours=hours + more))) for more in (-17, 0))
    assert (before[kind], after[kind]) == (0, KEPT[kind])


def test_sweeps_forget_the_same(old, clock, tmp_path):
    clock.set(later(old, days=40))
    assert counts_of(rehearsed(old, clock.now())) == KEPT
    recovery = Recovery(old.database, tmp_path, clock, 3600.0)
    sweep = Sweep(old.database, old.bell, lambda *_: [], clock, recovery, books(old.database, tmp_path))
    for _ in range(5):
        assert sweep.run()
        with old.database.begin() as session:
            session.execute(tables.locks.delete())
    assert rehearsed(old, clock.now()) == retention.Forgotten()


def process(run, **at):
    """The number of a worker process that was seen, and perhaps settled, so long after the mailing."""
    sender = run.register(boot="b")
    values = {name: stored(later(run, days=days)) for name, days in at.items()}
    with run.database.begin() as session:
        session.execute(tables.senders.update().where(tables.senders.c.id == sender).values(**values))
    return sender


def processes(run):
    with run.database.read() as session:
        return set(session.execute(sa.select(tables.senders.c.id)).scalars())


def test_worker_processes_that_ended_thirty_days_ago_are_forgotten(run):
    gone = {process(run, seen_at=39, settled_at=39), process(run, seen_at=1, settled_at=2), process(run, seen_at=39)}
    stay = {process(run, seen_at=39, settled_at=41), process(run, seen_at=69), run.sender}
    now = later(run, days=70)
    assert rehearsed(run, now).senders == 3
    assert retention.run(run.database, now=now).senders == 3
    assert processes(run) == stay
    assert not gone & stay
    assert retention.run(run.database, now=now).senders == 0


def test_worker_processes_whose_letters_are_open_stay(run):
    attempting, noticing, before = (process(run, seen_at=1) for _ in range(3))
    long_ago = process(run, seen_at=-1)
    with run.database.begin() as session:
        notice = notices.add(
            session, "slot-missed", once="o", address="a@b.test", language="en", parameters={}, now=run.now
        )
        held = notices.claim(session, notice, sender=noticing, lease_seconds=60)
        notices.pass_gate(session, held, sender=noticing, now=run.now)
        one = session.scalar(sa.select(sa.func.min(tables.deliveries.c.id)))
        values = {"state": int(DeliveryState.ATTEMPTING), "sender_id": attempting}
        session.execute(tables.deliveries.update().where(tables.deliveries.c.id == one).values(**values))
        session.execute(tables.batches.update().values(attempting=1))
        session.execute(tables.mailings.update().values(state="paused", finished_at=None))
    now = later(run, days=70)
    # While the mailing goes on, whoever may have sent a part of it stays.
    assert retention.run(run.database, now=now).senders == 1
    assert processes(run) == {run.sender, attempting, noticing, before}
    assert long_ago not in processes(run)
    with run.database.begin() as session:
        session.execute(tables.mailings.update().values(state="cancelled", finished_at=stored(later(run, days=2))))
    assert retention.run(run.database, now=now).senders == 1
    assert processes(run) == {run.sender, attempting, noticing}


def test_old_and_disproved_refusals_are_counted_before_they_go(run):
    with run.database.begin() as session:
        reached = tables.deliveries.c.state == DeliveryState.ACCEPTED.value
        reader = session.scalar(sa.select(tables.deliveries.c.subscriber_id).where(reached).limit(1))
        evidence = {"mailing_id": run.mailing, "epoch": 0, "returned": False, "reply": None}
        for who, days in ((reader, 0), (b"x" * 16, 1), (b"x" * 16, -181)):
            day = (run.now.date() + dt.timedelta(days=days)).isoformat()
            session.execute(bounces.insert().values(subscriber_id=who, day=day, **evidence))
    assert rehearsed(run, run.now).evidence == 2
    assert retention.run(run.database, now=run.now).evidence == 2


def test_a_mailing_that_goes_on_keeps_its_readers(database):
    run = Run(database, readers=3)
    assert retention.run(database, now=later(run, days=400)).links == 0
    assert readers_known(run) == 3


def test_many_links_are_cut_in_several_transactions(run, monkeypatch):
    monkeypatch.setattr(retention, "_CHUNK", 3)
    now = later(run, days=31)
    with run.database.begin() as session:
        retention.cut_some(session, now)
    assert readers_known(run) == 7
    assert retention.run(run.database, now=now).links == 7
    assert readers_known(run) == 0


def test_the_chosen_audience_of_a_mailing_is_forgotten_with_it(run):
    with run.database.begin() as session:
        session.execute(tables.mailing_audience.insert().values(mailing_id=run.mailing, subscriber_id=bytes(16)))
    retention.run(run.database, now=later(run, days=31))
    with run.database.read() as session:
        assert session.execute(sa.select(tables.mailing_audience)).all() == []


def half_planned(run):
    stop_planning(run, after=2)


def unplanned(run):
    run.control("cancel")


@pytest.mark.parametrize("cancelled", [unplanned, half_planned])
def test_a_mailing_whose_chosen_audience_was_forgotten_before_it_was_planned_cannot_be_retried(database, cancelled):
    run = Run(database, readers=4, planned=False)
    with database.begin() as session:
        chosen = [subscribers.find(session, address).id for address in run.addresses]
        session.execute(tables.mailings.update().values(audience="file"))
        mailings.add_audience(session, run.mailing, chosen)
    cancelled(run)
    with database.read() as session:
        state = control.after_retry(session, run.mailing, lambda *_: [], now=run.now)
    assert state is MailingState.PLANNING
    before = run.counts()
    retention.run(database, now=later(run, days=31))

    with pytest.raises(
        ConflictError, match=r"whom it was for was forgotten.*send its articles in the issue of another"
    ):
        run.control("retry")
    with database.read() as session, pytest.raises(ConflictError, match="was forgotten"):
        control.after_retry(session, run.mailing, lambda *_: [], now=run.now)

    assert (run.state(), run.counts()) == ("cancelled", before)


def test_letters_whose_readers_were_forgotten_are_not_tried_again(database):
    run = Run(database, readers=4)
    claim = run.claim()
    gated = run.gate(claim).recipients
    run.record(*map(accepted, gated[:2]), *(result(one, DeliveryState.EXPIRED) for one in gated[2:]))
    run.give_back(claim)
    with database.begin() as session:
        progress.finish(session, run.mailing, now=run.now)

    def retryable():
        with database.read() as session:
            return interventions.retryable(session, run.mailing)

    assert retryable() == 2
    retention.run(database, now=later(run, days=31))

    assert retryable() == run.control("retry") == 0
    assert (run.state(), run.counts()) == ("sent", {"accepted": 2, "expired": 2})
