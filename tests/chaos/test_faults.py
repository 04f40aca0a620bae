"""Single faults at bad moments: a worker that sleeps past its lease, a database that drops every connection."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.queue import TICK_SECONDS
from service.store import DatabaseAwayError, tables
from tests.chaos.run import hurried
from tests.installation import audit, installed, past_dot
from tests.smtp_sink import Rule

pytestmark = pytest.mark.slow

SLOW = [Rule("DOT", delay=0.05)]


def url_of(database):
    return database.url.render_as_string(hide_password=False)


def holders(made):
    """The processes that hold a journal, which are those that send."""
    return [pid for worker in made.workers for pid in worker.children() if journals(pid)]


def journals(pid):
    """The journals that a process holds."""
    links = []
    with contextlib.suppress(OSError):
        links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    return {Path(link) for link in links if link.endswith(".journal")}


def put_to_sleep(made, pid):
    """SIGSTOP with a letter past its dot, and between two transactions: within one its locks would stop the others."""
    for _ in range(50):
        os.kill(pid, signal.SIGSTOP)
        made.wait_for(lambda: stands_still(pid), 10)
        if any(map(past_dot, journals(pid))) and holds_nothing(made):
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("it is never outside a transaction with a letter past its dot")


def stands_still(pid):
    """Whether the signal has reached every thread: each may still begin a transaction until then."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def holds_nothing(made):
    try:
        if made.database.postgresql:
            with made.database.begin() as session:
                session.execute(sa.select(tables.batches.c.id).with_for_update(nowait=True))
        else:
            with contextlib.closing(sqlite3.connect(made.database.url.database, timeout=0.3)) as connection:
                connection.execute("BEGIN IMMEDIATE")
    except (DatabaseAwayError, sqlite3.OperationalError):
        return False
    return True


def is_still(made, mailing):
    before = made.status(mailing).counts
    time.sleep(0.5)
    return made.status(mailing).counts == before


def test_a_worker_that_sleeps_past_its_lease_and_wakes_mails_nobody_twice(database, tmp_path):
    with installed(
        tmp_path / "run", url_of(database), rules=SLOW, own_process=True, lease_seconds=5, batch_size=100
    ) as made:
        made.fill(1000)
        for _ in range(2):
            made.start_worker("-Q", "bulk", concurrency=1)
        mailing = made.send()
        made.wait_for(lambda: len(holders(made)) == 2 and made.taken() > 100)
        sleeper = holders(made)[0]
        put_to_sleep(made, sleeper)
        with hurried(made):
            made.start_sweeps()
            # The other worker takes everything over but what the sleeper has in its hands.
            made.wait_for(lambda: not made.status(mailing).counts.pending, 40)
            made.wait_for(lambda: is_still(made, mailing), 20)
            assert made.status(mailing).counts.attempting
            assert made.status(mailing).mailing.state.value == "sending"
            os.kill(sleeper, signal.SIGCONT)
            made.wait_until_sent(mailing, 40)
        found = audit(made, mailing)
        found.complain()
        # What was past its dot is answered: the relay's word waited in the socket.
        assert found.uncertain == 0
        assert found.taken == 1000


@pytest.mark.long
def test_what_a_killed_process_had_in_hand_is_sent_by_the_others_within_its_lease_and_two_sweeps(
    postgresql_database, tmp_path
):
    lease = 5
    with installed(
        tmp_path / "run", url_of(postgresql_database), rules=SLOW, own_process=True, lease_seconds=lease, batch_size=100
    ) as made:
        made.fill(1000)
        for _ in range(2):
            made.start_worker(concurrency=2)
        made.wait_for(lambda: all(worker.sweeps() and worker.children() for worker in made.workers), 60)
        mailing = made.send()
        made.wait_for(lambda: len(holders(made)) > 1 and made.taken() > 100, 60)
        victim = holders(made)[0]
        put_to_sleep(made, victim)
        left = sum(map(past_dot, journals(victim)))
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        assert not is_sent(made, mailing)
        # Nothing is hurried here: what is found, the sweeps beside the workers find.
        made.wait_for(lambda: is_sent(made, mailing), lease + 2 * TICK_SECONDS)
        assert time.monotonic() - killed < lease + 2 * TICK_SECONDS
        found = audit(made, mailing)
        found.complain()
        assert found.uncertain == left


def test_a_database_that_drops_every_connection_loses_nobody_and_mails_nobody_twice(postgresql_database, tmp_path):
    # A claim whose commit nobody knows of lasts as long as a lease.
    with installed(
        tmp_path / "run", url_of(postgresql_database), rules=SLOW, own_process=True, lease_seconds=10, batch_size=100
    ) as made:
        made.fill(1200)
        for _ in range(2):
            made.start_worker(concurrency=3)
        mailing = made.send()
        with hurried(made):
            made.start_sweeps()
            for due in (100, 300, 500, 700, 900):
                made.wait_for(lambda due=due: made.taken() >= due, 120)
                drop_connections(made)
            made.wait_for(lambda: is_sent(made, mailing), 120)
        found = audit(made, mailing)
        found.complain()
        assert found.uncertain == 0
        assert found.taken == 1200


def drop_connections(made):
    """Every other backend of this database ends, wherever it is: in a gate, before a commit, after it."""
    with made.database.begin() as session:
        session.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


def is_sent(made, mailing):
    with contextlib.suppress(Exception):
        return made.status(mailing).mailing.state.value == "sent"
