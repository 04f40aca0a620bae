"""A PostgreSQL that is there and says nothing is given up; one that only takes its time is not."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.store import Database, DatabaseAwayError, Sealer, schema, silence
from tests.chaos.proxy import Proxy
from tests.conftest import KEYRING
from tests.next_version import NEXT, next_migrations

PID = "SELECT pg_backend_pid()"
SLOWLY = """def upgrade():
    op.execute("SELECT pg_sleep(1.5)")
"""


@pytest.fixture
def hasty(monkeypatch):
    """Tenths of a second for what takes half a minute."""
    monkeypatch.setattr(silence, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(silence, "ANSWER_SECONDS", 0.3)


@pytest.fixture
def answered(hasty, monkeypatch):
    """As `hasty`, where the server is there to answer: on a busy machine it needs its time for that."""
    monkeypatch.setattr(silence, "ANSWER_SECONDS", 10)


@pytest.fixture
def cut_off(postgresql_database):
    """The same database behind a network that can swallow all that is said, and that network."""
    url = postgresql_database.url
    with Proxy(Path(str(url.query["host"])) / ".s.PGSQL.5432") as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port, query={"gssencmode": "disable"})
        with contextlib.closing(Database(through.render_as_string(hide_password=False), Sealer(KEYRING))) as made:
            yield made, proxy.weather


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def alone():
    """Asks statements alone, all of one event loop."""
    with asyncio.Runner() as runner:
        yield lambda database, statement, **values: runner.run(database.rows_alone(statement, values))[0][0]


def test_a_silent_server_is_given_up_within_half_a_minute():
    assert silence.QUIET_SECONDS + silence.ANSWER_SECONDS <= 30


WAYS = ("a transaction", "a statement alone")


def transact(database, statement):
    with database.begin() as session:
        return session.scalar(sa.text(statement))


@pytest.fixture(params=WAYS)
def ask(request, alone):
    """Asks a statement in one way or the other."""
    return {"a transaction": transact, "a statement alone": alone}[request.param]


@pytest.fixture
def longest(monkeypatch):
    """So long either kind of connection waits for its own answer."""

    def set_longest(seconds):
        for kind in (silence.Connection, silence.LoopConnection):
            monkeypatch.setattr(kind, "longest", seconds)

    return set_longest


def test_a_server_that_has_fallen_silent_counts_as_away_and_the_next_connection_as_another(cut_off, hasty, ask):
    database, weather = cut_off
    assert ask(database, "SELECT 1") == 1
    weather.stalled = True
    before = time.monotonic()
    with pytest.raises(DatabaseAwayError, match="SilentServerError"):
        ask(database, "SELECT 1")
    assert time.monotonic() - before < 5
    weather.stalled = False
    assert ask(database, "SELECT 1") == 1
    assert database.losses == 1


def test_a_commit_that_is_not_answered_counts_as_away(cut_off, hasty):
    database, weather = cut_off

    def commit():
        with database.begin() as session:
            assert session.scalar(sa.text("SELECT 1")) == 1
            weather.stalled = True

    with pytest.raises(DatabaseAwayError, match="SilentServerError"):
        commit()


def test_a_loop_goes_on_while_a_server_is_silent_and_while_it_is_asked_whether_it_is_there(cut_off, hasty, monkeypatch):
    database, weather = cut_off
    monkeypatch.setattr(silence, "ANSWER_SECONDS", 3)

    async def turns():
        await database.rows_alone("SELECT 1", {})
        weather.stalled = True
        asking = asyncio.create_task(database.rows_alone("SELECT 1", {}))
        longest, last = 0.0, time.monotonic()
        while not asking.done():
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        with pytest.raises(DatabaseAwayError, match="SilentServerError"):
            await asking
        return longest

    # To be asked takes three seconds.
    assert asyncio.run(turns()) < 2


def test_a_statement_may_take_long_where_the_server_answers_others(postgresql_database, cut_off, answered, ask):
    by_tcp, _ = cut_off
    for database in (postgresql_database, by_tcp):
        assert ask(database, "SELECT 1 FROM pg_sleep(1.5)") == 1
        assert database.losses == 0


def test_a_server_process_that_stands_still_alone_is_given_up_too(postgresql_database, answered, longest, ask):
    pid = ask(postgresql_database, PID)
    with stopped(pid):
        longest(1.0)
        with pytest.raises(DatabaseAwayError, match="SilentServerError"):
            ask(postgresql_database, "SELECT 1")


def test_what_was_given_up_is_not_begun_when_the_server_wakes_up(postgresql_database, answered, longest, ask):
    insert, count = "INSERT INTO done VALUES (1) RETURNING a", "SELECT count(*) FROM done"
    with postgresql_database.begin() as session:
        session.execute(sa.text("CREATE TABLE done (a int)"))
    pid = ask(postgresql_database, PID)
    # Prepared now: the next time all of it is in the server's hands at once.
    assert ask(postgresql_database, insert) == 1
    longest(1.0)
    with stopped(pid):
        with pytest.raises(DatabaseAwayError):
            ask(postgresql_database, insert)
        # By whatever connection is there.
        assert transact(postgresql_database, count) == 1
    gone(pid)
    assert transact(postgresql_database, count) == 1


def test_a_statement_alone_ends_what_another_connection_gave_up(postgresql_database, answered, longest, alone):
    pid = transact(postgresql_database, PID)
    alone(postgresql_database, "SELECT 1")
    longest(1.0)
    with stopped(pid):
        with pytest.raises(DatabaseAwayError):
            transact(postgresql_database, "SELECT 1")
        assert alone(postgresql_database, "SELECT 1") == 1
    gone(pid)


def gone(pid):
    give_up = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_migration_may_take_as_long_as_it_likes(postgresql_database, answered, longest, tmp_path):
    longest(0.5)
    folder = next_migrations(tmp_path / "next")
    last = folder / "versions" / f"{NEXT}_next.py"
    last.write_text(last.read_text().replace("def upgrade():\n", SLOWLY))
    assert schema.upgrade(postgresql_database, migrations=folder) == (schema.NEWEST, NEXT)
