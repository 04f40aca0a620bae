"""How a transaction waits for SQLite's one write lock."""

import sqlite3
import threading

import pytest
import sqlalchemy as sa

from service.store import write_lock
from service.store.database import SQLITE_BUSY_SECONDS, Database
from service.store.errors import DatabaseAwayError
from service.store.sealing import Sealer
from tests.conftest import KEYRING


@pytest.fixture
def path(tmp_path):
    return tmp_path / "locked.db"


@pytest.fixture
def database(path):
    made = Database(f"sqlite:///{path}", Sealer(KEYRING))
    yield made
    made.close()


def holder(path):
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_who_waits_for_a_writer_begins_once_that_one_is_done(path, database):
    with database.begin() as session:
        session.execute(sa.text("CREATE TABLE notes (words TEXT)"))
    other = holder(path)
    other.execute("INSERT INTO notes VALUES ('first')")
    released = threading.Event()

    def release():
        released.set()
        other.execute("COMMIT")

    timer = threading.Timer(0.2, release)
    timer.start()
    with database.begin() as session:
        assert released.is_set()
        assert session.scalar(sa.text("SELECT words FROM notes")) == "first"
        assert session.scalar(sa.text("PRAGMA busy_timeout")) == SQLITE_BUSY_SECONDS * 1000
    timer.join()
    other.close()


def test_who_waits_too_long_is_told_that_the_database_is_busy(path, database, monkeypatch):
    monkeypatch.setattr("service.store.database.SQLITE_BUSY_SECONDS", 0.05)
    with database.begin():
        pass
    other = holder(path)
    with pytest.raises(DatabaseAwayError), database.begin():
        raise AssertionError
    other.execute("COMMIT")
    with database.begin() as session:
        assert session.scalar(sa.text("PRAGMA busy_timeout")) == 50
    other.close()


def test_what_is_no_waiting_is_told_at_once(database, monkeypatch):
    def never(_seconds):
        raise AssertionError

    monkeypatch.setattr(write_lock.time, "sleep", never)
    with database.begin() as session, pytest.raises(sa.exc.OperationalError, match="within a transaction"):
        write_lock.begin(session._connection, 30)
