"""What is read of the engine's health, on both databases; ages are by the database's clock, which is today's."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.store import batches, engine_tables, measures, notices, tables, vitals
from service.store.instants import database_now, stored
from tests.unit.delivery.parts import Run
from tests.unit.delivery.post import ADDRESS

YEARS = 3 * 365 * 86400.0  # the run is of 2019


@pytest.fixture
def run(database):
    return Run(database, readers=4)


def read(run):
    with run.database.read() as session:
        return vitals.read(session)


def change(run, statement):
    with run.database.begin() as session:
        session.execute(statement)


def now(run):
    with run.database.read() as session:
        return session.now()


def clock(run, seconds=0):
    return database_now(postgresql=run.database.postgresql) + int(seconds * 1000)


def test_letters_are_due_since_their_mailing_began_until_something_moves(run):
    assert read(run).due_seconds > YEARS
    with run.database.begin() as session:
        measures.note_progress(session, run.mailing, now(run) - dt.timedelta(seconds=50))
    assert 49 < read(run).due_seconds < 60


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_nothing_is_due_of_a_mailing_that_is_not_sending(run, verb):
    run.control(verb)
    assert read(run).due_seconds == 0


def test_a_batch_that_is_held_back_is_not_due(run):
    change(run, tables.batches.update().values(not_before=clock(run, 100)))
    assert read(run).due_seconds == 0
    change(run, tables.batches.update().values(not_before=clock(run, -7)))
    assert 6 < read(run).due_seconds < 60


def test_a_mailing_that_nobody_plans_is_due_since_it_was_made_or_released(database):
    run = Run(database, planned=False)
    change(run, tables.mailings.update().values(created_at=clock(run, -90)))
    assert 89 < read(run).due_seconds < 120
    change(run, tables.mailings.update().values(release_at=clock(run, -20)))
    assert 19 < read(run).due_seconds < 50
    change(run, tables.mailings.update().values(state="scheduled"))
    assert 19 < read(run).due_seconds < 50
    change(run, tables.mailings.update().values(release_at=clock(run, 60)))
    assert read(run).due_seconds == 0
    with database.begin() as session:
        measures.note_progress(session, run.mailing, now(run))
    change(run, tables.mailings.update().values(state="planning", release_at=None))
    assert read(run).due_seconds < 30


def test_a_mailing_that_an_operator_sets_going_again_has_just_begun_to_be_due(run):
    run.control("pause")
    with run.database.read() as session:
        run.now = session.now()
    run.control("resume")
    assert read(run).due_seconds < 30


def sweep(run, at):
    """Ring whatever is due, as each sweep does."""
    with run.database.begin() as session:
        batches.to_ring(session, now_ms=stored(at), quiet_seconds=60, limit=8)
        notices.due(session, at)


def test_a_hint_that_nobody_took_up_grows_old_however_often_it_is_rung_again(database):
    run = Run(database, readers=4, batch_limit=2)
    change(run, tables.mailings.update().values(started_at=clock(run, -90)))
    for rung_before in (90, 60, 0):
        change(run, tables.batches.update().values(rung_at=clock(run, -rung_before)))
        sweep(run, now(run))
        assert 89 < read(run).ring_seconds < 100
    assert run.claim()
    # The other batch waits for its turn; nobody's ears are at fault.
    assert read(run).ring_seconds == 0


def test_what_was_never_rung_has_no_hint_to_take_up(run):
    change(run, tables.batches.update().values(rung_at=0))
    assert read(run).ring_seconds == 0


def test_a_notice_that_nobody_sends_is_due_since_it_was_made_however_often_it_is_rung(run):
    made = now(run) - dt.timedelta(seconds=400)
    with run.database.begin() as session:
        values = {"address": ADDRESS, "language": "en", "parameters": {}}
        notice = notices.add(session, "slot-missed", once="1", now=made, **values)
    for second in range(0, 401, 15):
        sweep(run, made + dt.timedelta(seconds=second))
        assert 399 < read(run).notice_seconds < 450
    with run.database.begin() as session:
        held = notices.claim(session, notice, sender=1, lease_seconds=60)
    # Somebody is at it.
    assert read(run).notice_seconds == 0
    # It was put off, and nobody came when its time had come.
    with run.database.begin() as session:
        due_at = now(run) - dt.timedelta(seconds=100)
        assert notices.give_back(session, held, DeliveryState.DEFERRED, due_at=due_at)
    sweep(run, now(run))
    assert 99 < read(run).notice_seconds < 150
    with run.database.begin() as session:
        held = notices.claim(session, notice, sender=1, lease_seconds=60)
        notices.give_back(session, held, DeliveryState.DEFERRED, due_at=now(run) + dt.timedelta(seconds=100))
    assert read(run).notice_seconds == 0


def test_a_lease_is_lost_when_it_ran_out_with_letters_under_way(run):
    claim = run.claim()
    run.gate(claim)
    assert read(run).lost_leases == 0
    change(run, tables.batches.update().values(lease_until=clock(run, -1)))
    assert read(run).lost_leases == 1


def test_senders_of_silent_hosts_and_hosts_that_were_seen_are_counted(run):
    change(run, tables.senders.update().values(seen_at=clock(run, -600)))
    change(run, engine_tables.hosts.insert().values(host="here", mark=1, seen_at=clock(run)))
    change(run, engine_tables.hosts.insert().values(host="gone", mark=1, seen_at=clock(run, -600)))
    found = read(run)
    assert (found.unsettled_senders, found.hosts) == (1, 1)


def test_sums_of_several_workers_that_store_at_once_add_up(database):
    sums = {("replies", f"reply={name}"): 1.0 for name in ("accepted", "hard", "policy")}

    def store(order):
        for _ in range(10):
            with database.begin() as session:
                measures.add(session, dict(order))

    orders = [list(sums.items()), list(sums.items())[::-1]]
    threads = [threading.Thread(target=store, args=(order,)) for order in orders for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert measures.everything(session) == dict.fromkeys(sums, 40.0)


def test_progress_is_no_sum(run):
    with run.database.begin() as session:
        measures.note_progress(session, 1, now(run))
        assert measures.everything(session) == {}
        assert session.scalar(sa.select(sa.func.count()).select_from(engine_tables.measures)) == 1
