"""What is read of the engine's health, on both databases; ages are by the database's clock, which is today's."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
import sqlalchemy as sa

from service.store import engine_tables, measures, tables, vitals
from service.store.instants import database_now
from tests.unit.delivery.parts import Run

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


def test_a_hint_that_nobody_took_up_grows_old(run):
    change(run, tables.batches.update().values(rung_at=clock(run, -90)))
    assert 89 < read(run).ring_seconds < 100
    assert run.claim()
    assert read(run).ring_seconds == 0


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
