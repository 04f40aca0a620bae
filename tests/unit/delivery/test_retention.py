"""Who got which mailing is forgotten after 30 days, what relays said after 7; the sums stay."""

import datetime as dt

import pytest
import sqlalchemy as sa

from service.delivery import progress, retention
from service.domain.delivery import DeliveryState
from service.store import ledger, tables
from tests.unit.delivery.parts import Run, accepted, result


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


def test_a_mailing_that_goes_on_keeps_its_readers(database):
    run = Run(database, readers=3)
    assert retention.run(database, now=later(run, days=400)).links == 0
    assert readers_known(run) == 3


def test_many_links_are_cut_in_several_transactions(run, monkeypatch):
    monkeypatch.setattr(retention, "_CHUNK", 3)
    now = later(run, days=31)
    with run.database.begin() as session:
        retention.cut_some(session, now=now)
    assert readers_known(run) == 7
    assert retention.run(run.database, now=now).links == 7
    assert readers_known(run) == 0


def test_the_chosen_audience_of_a_mailing_is_forgotten_with_it(run):
    with run.database.begin() as session:
        session.execute(tables.mailing_audience.insert().values(mailing_id=run.mailing, subscriber_id=bytes(16)))
    retention.run(run.database, now=later(run, days=31))
    with run.database.read() as session:
        assert session.execute(sa.select(tables.mailing_audience)).all() == []
