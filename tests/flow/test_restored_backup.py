"""Time travel: a backup is restored while an issue is being sent, or after; real workers, and the whole database."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import time
import uuid
from pathlib import Path

import pytest

from service.domain.delivery import DeliveryState
from service.mail import autopsy
from service.mail.host import host_id
from service.mail.journal import KIND_DOT
from service.mail.notebook import Notebook
from service.store import hosts
from tests.flow.conftest import database_url
from tests.installation import audit, installed
from tests.smtp_sink import Rule

pytestmark = pytest.mark.slow


class SqliteBackup:
    """The file, copied by SQLite's own backup while others write."""

    def __init__(self, url, folder):
        self._path, self._copy = Path(url.removeprefix("sqlite:///")), folder / "backup.sqlite3"

    def take(self):
        source, target = sqlite3.connect(self._path), sqlite3.connect(self._copy)
        with contextlib.closing(source), contextlib.closing(target):
            source.backup(target)

    def restore(self):
        for name in ("-wal", "-shm"):
            Path(f"{self._path}{name}").unlink(missing_ok=True)
        shutil.copy(self._copy, self._path)


class PostgresqlBackup:
    """Copies of the whole database within the server. Nobody may be connected, so workers are stopped for it."""

    def __init__(self, url, server):
        self._name = re.search(r"/([^/?]+)\?", url)[1]
        self._server, self._copy = server, f"b{uuid.uuid4().hex[:12]}"

    def _cut_off(self, name):
        self._server._run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        )

    def take(self):
        # Between two statements of the workers: they lose their connections, and no more.
        self._server._run(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS false')
        self._cut_off(self._name)
        self._server.create(self._copy, template=self._name)
        self._server._run(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS true')

    def restore(self):
        self._server.drop(self._name)
        self._server.create(self._name, template=self._copy)
        self._server.drop(self._copy)


@pytest.fixture(params=["sqlite", "postgresql"])
def travelling(request, tmp_path):
    """An installation without workers yet, and backups of its database."""
    # One connection a process: a kill leaves no more than a window of four letters in each.
    with (
        database_url(request, request.param, tmp_path) as url,
        installed(tmp_path / "run", url, connections=1) as made,
    ):
        if request.param == "sqlite":
            made.backup = SqliteBackup(url, tmp_path)
        else:
            made.backup = PostgresqlBackup(url, request.getfixturevalue("postgresql"))
        yield made


def back_up(made):
    made.backup.take()
    made.database.close()  # on PostgreSQL its connections are dead


def restore(made):
    made.database.close()
    made.backup.restore()


@contextlib.contextmanager
def standing_still(made, *workers):
    """Workers, or all of them, that are alive and do nothing, their sweeps among them."""
    pids = [pid for worker in workers or made.workers for pid in processes(worker)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def processes(worker):
    return (worker.pid, *worker.children(), *worker.sweeps())


def wake(worker):
    for pid in processes(worker):
        os.kill(pid, signal.SIGCONT)


def known(made, mailing):
    counts = made.status(mailing).counts
    return counts.accepted + counts.uncertain + counts.refused


def passed_the_gate(made, mailing):
    counts = made.status(mailing).counts
    return counts.accepted + counts.uncertain + counts.refused + counts.attempting


def kill(made):
    for worker in made.workers:
        for sweep in worker.sweeps():
            with contextlib.suppress(ProcessLookupError):
                os.kill(sweep, signal.SIGKILL)
        worker.kill()


def resumed_after_the_pause(made, mailing):
    """Pauses by itself, is resumed once all hosts have looked, and comes to its end; what the audit found."""
    made.wait_for(lambda: made.status(mailing).mailing.state.value == "paused", 120, why="it was not paused")
    made.control("set_rate", mailing, rate=0)
    made.wait_for(lambda: made.tydzen("mailing", "resume", mailing, wants=None).returncode == 0, 40)
    made.wait_until_sent(mailing, 120)
    found = audit(made, mailing)
    found.complain()
    return found


def test_a_backup_restored_in_mid_run_mails_nobody_twice(travelling):
    made = travelling
    made.fill(400)
    made.sink.set_rules(Rule("RCPT", "550 5.1.1 no such user", recipient="reader7@"))
    made.start_worker(concurrency=3)
    mailing = made.send(rate=60)
    made.wait_for(lambda: made.taken() >= 50, 120)
    back_up(made)
    made.wait_for(lambda: made.taken() >= 150, 120)
    kill(made)
    lost = made.taken()
    restore(made)

    made.start_worker(concurrency=3)
    made.wait_for(lambda: made.status(mailing).mailing.state.value == "paused", 120, why="it was not paused")
    made.wait_for(lambda: known(made, mailing) >= lost - 10, 120, why="the journals were not heard")
    made.sweep()
    found = made.json("mailing", "status", mailing)
    assert re.search(r"older than the journals of host \w+: .* \d+ letters that it did not know of", found["reason"])
    assert made.taken() <= lost + 10

    made.control("set_rate", mailing, rate=0)
    made.tydzen("mailing", "resume", mailing)
    made.wait_until_sent(mailing, 120)
    found = audit(made, mailing)
    found.complain()
    assert found.uncertain <= 12  # what the kill left between the dot and its reply
    # Who was refused in the lost time is refused by the log of departures, or, if it was before the backup, still is.
    refused = found.states[DeliveryState.REFUSED] + found.states[DeliveryState.SKIPPED]
    assert refused <= 1
    assert found.taken + refused + found.uncertain >= 400


@pytest.mark.parametrize("travelling", ["sqlite"], indirect=True)
def test_a_backup_restored_after_the_run_leaves_nobody_to_mail(travelling):
    made = travelling
    made.fill(150)
    worker = made.start_worker(concurrency=3)
    mailing = made.send(rate=40)
    made.wait_for(lambda: made.taken() >= 30, 120)
    back_up(made)
    made.control("set_rate", mailing, rate=0)
    made.wait_until_sent(mailing, 120)
    worker.end()
    restore(made)

    made.start_worker(concurrency=3)
    made.wait_for(lambda: made.status(mailing).mailing.state.value == "paused", 120, why="it was not paused")
    made.wait_for(lambda: made.status(mailing).counts.accepted == 150, 120, why="the journals were not heard")
    made.tydzen("mailing", "resume", mailing)
    made.sweep()
    made.wait_until_sent(mailing, 120)
    audit(made, mailing).complain()
    assert made.taken() == 150


@pytest.mark.parametrize("travelling", ["postgresql"], indirect=True)
def test_a_backup_from_before_the_planning_refuses_to_send_the_issue_again(travelling):
    made = travelling
    made.fill(60)
    back_up(made)
    worker = made.start_worker(concurrency=3)
    mailing = made.send()
    made.wait_until_sent(mailing, 120)
    worker.end()
    restore(made)

    # Sent again before any worker could look: nothing may come of it.
    again = made.send()
    made.start_worker(concurrency=3)
    made.wait_for(lambda: made.status(again).mailing.state.value == "cancelled", 120, why="it was not stopped")
    said = made.tydzen("mailing", "retry", again, wants=5)
    assert "issue 2019-W22 was mailed already" in said.stderr
    (open_issue,) = made.json("mailing", "reconcile")["lost_issues"]
    assert open_issue["issue"] == "2019-W22"
    assert made.taken() == 60

    made.tydzen("mailing", "reconcile", "2019-W22", "--yes")
    made.tydzen("mailing", "retry", again, "--yes")
    made.wait_until_sent(again, 120)
    assert made.taken() == 120
    # Under numbers of their own: no Message-ID of the lost time is used again.
    assert len({entry.message_id for entry in made.sink.entries()}) == 120


@pytest.mark.parametrize("travelling", ["postgresql"], indirect=True)
def test_a_failover_to_a_copy_that_lags_behind_is_noticed_by_running_workers(travelling):
    made = travelling
    made.fill(600)
    made.start_worker(concurrency=3)
    mailing = made.send(rate=50)
    made.wait_for(lambda: made.taken() >= 40, 120)
    back_up(made)
    # Letters that had passed the gate before are no time lost: the copy knows of them.
    passed = passed_the_gate(made, mailing)
    made.wait_for(lambda: known(made, mailing) > passed, 120, why="nothing passed the gate after the copy")
    # The workers go on living; to them the server is away for a moment, and the copy is less than a sweep behind.
    with standing_still(made):
        # So long that a pool asks whether its connections live, and takes new ones in silence.
        time.sleep(1.5)
        restore(made)

    found = resumed_after_the_pause(made, mailing)
    assert found.uncertain == 0
    assert found.taken == 600


@pytest.mark.parametrize("travelling", ["postgresql"], indirect=True)
def test_a_failover_to_a_copy_that_knows_every_gate_is_gone_on_with(travelling):
    made = travelling
    made.fill(300)
    made.start_worker(concurrency=3)
    mailing = made.send(rate=50)
    made.wait_for(lambda: made.taken() >= 40, 120)
    # Copied while they stand still: what their last groups still write after it, had passed the gate before.
    with standing_still(made):
        back_up(made)
        restore(made)

    made.wait_until_sent(mailing, 120)
    found = audit(made, mailing)
    found.complain()
    assert found.uncertain == 0
    assert found.taken == 300
    assert made.status(mailing).mailing.reason is None


@pytest.mark.parametrize("travelling", ["postgresql"], indirect=True)
def test_who_left_in_the_moments_that_a_copy_lagged_behind_gets_nothing(travelling):
    made = travelling
    made.fill(20)
    made.start_worker(concurrency=2)
    made.sweep()
    # Nothing is sent and no sweep comes, so neither journal nor mark tells of the lost moments.
    with standing_still(made):
        back_up(made)
        made.tydzen("subscriber", "erase", "reader7@example.test", "--yes")
        restore(made)

    mailing = made.send()

    made.wait_until_sent(mailing, 120)
    found = audit(made, mailing)
    found.complain()
    assert found.taken == 19
    assert made.status(mailing).mailing.reason is None


def new_host(made, name):
    """A data directory of its own with the keyring, as another machine has it."""
    data = made.folder / name
    data.mkdir()
    shutil.copy(made.folder / "data" / "secret.key", data)
    return data


def restored_after_a_newcomer(made):
    """A mailing in mid-run, restored from a backup from before a second host came, and that host's data directory.

    Both hosts are dead.
    """
    # So that there is something left for the second one to take up.
    made.environment["TYDZEN_BATCH_SIZE"] = "20"
    made.fill(600)
    made.start_worker(concurrency=2)
    # So slowly that much is left when the second one is up, however long that takes; `ends_well` lifts it.
    mailing = made.send(rate=10)
    made.wait_for(lambda: made.taken() >= 40, 120)
    back_up(made)
    new = new_host(made, "new")
    made.start_worker(concurrency=2, data_dir=new)
    made.wait_for(lambda: sum(map(dots, (new / "journals").glob("*.journal"))) > 20, 120, why="it sent nothing")
    made.sweep()  # of the old one, which remembers it from then on
    assert host_id(new) in Notebook(made.folder / "data").mark().hosts
    kill(made)
    restore(made)
    return mailing, new


def dots(path):
    with contextlib.suppress(FileNotFoundError):  # settled since it was listed
        return sum(record.kind == KIND_DOT for record in autopsy.read(path).records)
    return 0


def ends_well(made, mailing):
    made.control("set_rate", mailing, rate=0)
    made.tydzen("mailing", "resume", mailing)
    made.wait_until_sent(mailing, 120)
    found = audit(made, mailing)
    found.complain()
    assert found.uncertain <= 16  # a window of each process that was killed
    assert found.taken + found.uncertain >= 600


def test_a_host_that_is_newer_than_the_backup_is_heard_as_any_other(travelling):
    made = travelling
    mailing, new = restored_after_a_newcomer(made)
    lost = made.taken()

    made.start_worker(concurrency=2, data_dir=new)
    made.wait_for(lambda: made.status(mailing).mailing.state.value == "paused", 120, why="it was not paused")
    made.wait_for(lambda: awaited(made) == {host_id(made.folder / "data")}, 60, why="it was not compared")
    made.tydzen("mailing", "resume", mailing, wants=5)
    made.start_worker(concurrency=2)
    made.wait_for(lambda: not awaited(made), 60, why="the old host was not heard")

    assert known(made, mailing) >= lost - 16
    assert made.taken() == lost
    ends_well(made, mailing)


@pytest.mark.parametrize("travelling", ["postgresql"], indirect=True)
def test_a_host_that_is_newer_than_the_backup_and_gone_is_waited_for_and_its_books_are_read_elsewhere(travelling):
    made = travelling
    mailing, new = restored_after_a_newcomer(made)
    lost = made.taken()

    worker = made.start_worker(concurrency=2)
    made.wait_for(lambda: awaited(made) == {host_id(new)}, 120, why="the new host is not waited for")
    said = made.tydzen("mailing", "resume", mailing, wants=5)
    assert host_id(new)[:8] in said.stderr
    # Its disk is all that is left of it: as `docs/operations.md` says.
    worker.end()
    shutil.copytree(new / "journals", made.folder / "data" / "journals", dirs_exist_ok=True)
    with (made.folder / "data" / "begun.log").open("ab") as log:
        log.write((new / "begun.log").read_bytes())
    made.start_worker(concurrency=2)
    made.wait_for(lambda: known(made, mailing) >= lost - 16, 60, why="its books were not read")
    made.tydzen("mailing", "reconcile", "--without", host_id(new)[:8], "--yes")

    assert made.taken() == lost
    ends_well(made, mailing)


def awaited(made):
    with made.database.read() as session:
        return {one.host for one in hosts.awaited(session)}


@pytest.mark.parametrize("travelling", ["postgresql"], indirect=True)
def test_nobody_claims_from_a_copy_before_every_host_has_looked_at_it(travelling):
    made = travelling
    made.environment["TYDZEN_BATCH_SIZE"] = "20"
    made.fill(500)
    made.start_worker(concurrency=2)
    new = new_host(made, "new")
    made.start_worker(concurrency=2, data_dir=new)
    made.wait_for(lambda: host_id(new) in heard(made), 60, why="the new host did not compare")
    idle, busy = made.workers
    mailing = made.send(rate=25)
    made.wait_for(lambda: sum(map(dots, (new / "journals").glob("*.journal"))) > 20, 120, why="it sent nothing")
    # The one sends nothing in the lost moments, and so finds nothing lost; the other begins batches in them.
    with standing_still(made, idle):
        back_up(made)
        passed = passed_the_gate(made, mailing)
        made.wait_for(lambda: known(made, mailing) > passed + 60, 120, why="nothing was sent after the copy")
        with standing_still(made, busy):
            restore(made)
            lost = made.taken()
            wake(idle)
            made.wait_for(
                lambda: made.json("mailing", "status", mailing)["hosts_unheard"] == [host_id(new)],
                60,
                why="nobody waited for the busy host",
            )
            time.sleep(8)  # so long that sweeps have rung for all that seems to be due
            # The batches that its two processes held before go on: they are theirs in the copy, too.
            assert made.taken() <= lost + 2 * 20
            said = made.tydzen("mailing", "status", mailing).stderr
            assert f"tydzen mailing reconcile --without {host_id(new)[:8]}" in said

    found = resumed_after_the_pause(made, mailing)
    assert found.taken + found.uncertain >= 500


def heard(made):
    with made.database.read() as session:
        return hosts.about(session, "nobody")
