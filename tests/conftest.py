"""Real parts for tests: a PostgreSQL and a SQLite database, each migrated, new for every test."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import time
import uuid
from pathlib import Path

import hypothesis
import pytest
import structlog

from service.domain.keys import Keyring
from service.domain.limits import midnight_after
from service.store import Database, Sealer, schema
from tests.databases import Databases
from tests.servers import postgresql_server, valkey_server

# A busy machine is no error of what is tested.
hypothesis.settings.register_profile("tydzen", deadline=None)
hypothesis.settings.load_profile("tydzen")

KEYRING = Keyring({1: bytes(range(32))})


def pytest_collection_modifyitems(items):
    """Begin with those that take long, so that no process of a parallel run is left with one at the end.

    Each process is given one stretch of the tests to begin with, so each stretch has its share of both kinds.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    items[:] = [item for part in range(processes) for kind in (slow, quick) for item in stretch(kind, part, processes)]


def stretch(items, part, parts):
    """That part of so many, in their order: tests of one file share what the file sets up."""
    return items[part * len(items) // parts : (part + 1) * len(items) // parts]


@contextlib.contextmanager
def log_kept():
    """The log is afterwards as it was, that of the libraries too: to whom they log, and from which level on."""
    found, root = structlog.get_config(), logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    structlog.configure(**found)
    root.setLevel(level)
    # Others that were there stay away: pytest brings its own for each part of a test, and takes them with it.
    for handler in [one for one in root.handlers if one not in handlers]:
        root.removeHandler(handler)


@pytest.fixture(autouse=True)
def logs():
    """What a test does to the log ends with it, as the stream does that it logs to."""
    with log_kept():
        yield


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: dt.datetime) -> None:
        self._now = now

    def now(self) -> dt.datetime:
        return self._now

    def advance(self, **by: float) -> None:
        self._now += dt.timedelta(**by)

    def set(self, now: dt.datetime) -> None:
        self._now = now


@pytest.fixture
def before_midnight():
    """For what must end on the day, in UTC, on which it begins: where that is nearly over, the next one is waited for."""
    now = dt.datetime.now(dt.UTC)
    left = (midnight_after(now) - now).total_seconds()
    if left < 30:
        time.sleep(left + 0.1)


@pytest.fixture
def clock():
    return FakeClock(dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC))


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """The URL of a running PostgreSQL server shared by all test processes, with a migrated template database."""
    with postgresql_server(tmp_path_factory, Sealer(KEYRING)) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgresql):
    """Migrated databases of that server for the tests of this process."""
    made = Databases(postgresql)
    yield made
    made.close()


@pytest.fixture
def valkey(tmp_path):
    """A real Valkey of this test alone: `url`, `start()`, `kill()`, `flushall()`, `freeze()`, `thaw()`."""
    with valkey_server(tmp_path / "valkey") as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite3"
    database = Database(f"sqlite:///{path}", Sealer(KEYRING))
    schema.upgrade(database)
    schema.adopt_keyring(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    database.close()
    return path


def sqlite_copy(template: Path, folder: Path) -> str:
    path = folder / f"{uuid.uuid4().hex}.sqlite3"
    path.write_bytes(template.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """A migrated, empty database: each test that asks for it runs on SQLite and on PostgreSQL."""
    yield from _database(request, request.param, tmp_path)


@pytest.fixture
def sqlite_database(request, tmp_path):
    yield from _database(request, "sqlite", tmp_path)


@pytest.fixture
def postgresql_database(request, tmp_path):
    yield from _database(request, "postgresql", tmp_path)


def _database(request, kind, tmp_path):
    if kind == "sqlite":
        made = Database(sqlite_copy(request.getfixturevalue("sqlite_template"), tmp_path), Sealer(KEYRING))
        yield made
        made.close()
        return
    server, databases = request.getfixturevalue("postgresql"), request.getfixturevalue("databases")
    name = databases.take()
    made = Database(server.sqlalchemy_url(name), Sealer(KEYRING))
    yield made
    made.close()
    databases.give_back(name)
