"""Commands on a host whose clock is wrong: they go by the database's, as the workers do."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from service import clock
from service.domain.delivery import DeliveryState
from service.store.instants import loaded, stored
from service.store.tables import audit, batches, deliveries, mailings
from tests.factories import add_readers, save_issue, save_publication
from tests.unit.delivery.parts import WEEK, Run, result

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

DAYS = {"three-days-ahead": dt.timedelta(days=3), "three-days-behind": dt.timedelta(days=-3)}
HOUR, NEAR = dt.timedelta(hours=1), dt.timedelta(minutes=5)


@pytest.fixture(params=DAYS.values(), ids=DAYS)
def wrong_by(request, monkeypatch):
    monkeypatch.setattr(clock.SystemClock, "now", lambda _self: dt.datetime.now(dt.UTC) + request.param)
    return request.param


def right():
    return dt.datetime.now(dt.UTC)


def near(milliseconds):
    return abs(loaded(milliseconds) - right()) < NEAR


def test_a_mailing_for_later_waits_for_its_time(tydzen, database, wrong_by):
    with database.begin() as session:
        save_publication(session)
        save_issue(session, WEEK)
    add_readers(database, 1)
    at = right() + HOUR
    assert tydzen("issue", "send", WEEK, "--yes", "--at", at.isoformat())[0] == 0
    assert tydzen("issue", "send", WEEK, "--yes", "--at", (right() - HOUR).isoformat())[0] != 0
    with database.read() as session:
        made = session.execute(mailings.select()).one()
    assert (made.state, made.release_at) == ("scheduled", stored(at))
    # And again after it was cancelled, by a command that looks at the time before it opens any transaction.
    assert tydzen("mailing", "cancel", made.id, "--yes")[0] == 0
    assert json.loads(tydzen("mailing", "retry", made.id, "--json")[1])["state"] == "scheduled"


def test_what_waits_for_the_next_day_is_let_out_by_a_new_limit(tydzen, database, wrong_by):
    run = Run(database, readers=3)
    with database.begin() as session:
        session.execute(batches.update().values(not_before=stored(right() + HOUR)))
    assert tydzen("pace", "set", "--rate", "5")[0] == 0
    assert {run.batch(number).not_before for number in run.batch_ids()} == {0}


def test_what_a_retry_takes_back_bears_the_right_time(tydzen, database, wrong_by):
    run = Run(database, readers=2)
    claim = run.claim()
    first, *_ = run.gate(claim).recipients
    run.record(result(first, DeliveryState.DEFERRED, due_ms=stored(right() + HOUR)))
    run.give_back(claim)
    assert tydzen("mailing", "retry", run.mailing)[0] == 0
    with database.read() as session:
        tried = session.execute(deliveries.select().where(deliveries.c.id == first.delivery)).one()
    assert tried.state == DeliveryState.PENDING
    assert near(tried.at)


def test_whatever_a_command_writes_down_bears_the_right_time(tydzen, database, wrong_by):
    run = Run(database, readers=1)
    commands = [
        ("mailing", "pause", run.mailing),
        ("mailing", "resume", run.mailing),
        ("mailing", "rate", run.mailing, 5),
        ("mailing", "cancel", run.mailing, "--yes"),
        ("pace", "set", "--rate", 3),
        ("schedule", "set", "Mon 09:00", "--timezone", "Europe/Minsk"),
        ("schedule", "clear"),
        ("subscriber", "add", "somebody@example.org", "--languages", "be", "--consent", "asked"),
        ("subscriber", "set", "somebody@example.org", "--languages", "ru"),
        ("subscriber", "suppress", "somebody@example.org"),
        ("subscriber", "unsuppress", "somebody@example.org"),
        ("subscriber", "erase", "somebody@example.org", "--yes"),
    ]
    with database.begin() as session:
        session.execute(audit.delete())
    for command in commands:
        code, _, err = tydzen(*command)
        assert code == 0, (command, err)
    with database.read() as session:
        at = [row.at for row in session.execute(audit.select())]
    assert len(at) == len(commands)
    assert all(map(near, at))
