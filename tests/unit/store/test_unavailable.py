"""What a database says when it is away, busy or in a knot is one error, which callers wait out."""

import asyncio
import contextlib
import multiprocessing
import os
import socket
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.store import Database, DatabaseAwayError, DuplicateError, Sealer
from tests.chaos.proxy import Proxy
from tests.conftest import KEYRING


def test_a_server_that_takes_the_connection_and_says_nothing_counts_as_a_database_that_is_away():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/d?connect_timeout=2&gssencmode=disable"
        database = Database(url, Sealer(KEYRING))
        with pytest.raises(DatabaseAwayError, match="ConnectionTimeout"), database.read():
            pass


@pytest.fixture
def loop():
    """An event loop, of which statements alone are asked."""
    with asyncio.Runner() as runner:
        yield runner


# The service's own, in libpq's words.
SILENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


def told(url):
    """What the driver's own connection says it was told of silence."""
    database = Database(url, Sealer(KEYRING))
    with contextlib.closing(database), database.read() as session:
        found = session.connection.connection.driver_connection.info.get_parameters()
        return {name: found.get(name) for name in SILENCE}


def test_a_connection_that_falls_silent_ends_within_half_a_minute(postgresql_database):
    assert told(str(postgresql_database.url)) == SILENCE


@pytest.mark.parametrize("name", SILENCE)
def test_what_the_url_itself_says_of_silence_holds(postgresql_database, name):
    url = postgresql_database.url.update_query_dict({name: "7"})
    assert told(str(url)) == {**SILENCE, name: "7"}


def test_several_hosts_a_service_and_a_file_of_passwords_are_named_beside_them(
    postgresql_database, tmp_path, monkeypatch
):
    url = postgresql_database.url
    (tmp_path / "services").write_text(f"[tydzen]\nhost={url.query['host']}\nuser={url.username}\n")
    (tmp_path / "passwords").touch(mode=0o600)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    of_service = f"postgresql:///{url.database}?service=tydzen&passfile={tmp_path / 'passwords'}"
    assert told(of_service) == SILENCE
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    of_two = f"postgresql://{url.username}@/{url.database}?host={nobody}&host={url.query['host']}:5432"
    assert told(of_two) == SILENCE


IDLE = sa.text("SHOW idle_in_transaction_session_timeout")


def patient_for(database, milliseconds):
    """The same database, whose server waits for so long in a transaction, as the URL says."""
    options = f"-c idle_in_transaction_session_timeout={milliseconds}"
    return Database(str(database.url.update_query_dict({"options": options})), Sealer(KEYRING))


def test_a_session_that_falls_silent_in_a_transaction_is_ended_within_a_minute_and_a_slow_reader_is_not(
    postgresql_database,
):
    with postgresql_database.begin() as session:
        assert session.scalar(IDLE) == "1min"
        for _again in range(2):
            for _row in session.stream(sa.text("SELECT generate_series(1, 3)"), chunk=1):
                assert session.scalar(IDLE) == "0"
    with postgresql_database.begin() as session:
        assert session.scalar(IDLE) == "1min"
    with contextlib.closing(patient_for(postgresql_database, 7000)) as own, own.read() as session:
        assert session.scalar(IDLE) == "7s"


def test_a_servers_stricter_default_holds_for_none_of_our_transactions(postgresql_database):
    isolation = "SHOW transaction_isolation"
    with postgresql_database.begin() as session:
        name = postgresql_database.url.database
        session.execute(sa.text(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'serializable'"))
    with contextlib.closing(Database(postgresql_database.url, Sealer(KEYRING))) as ours:
        told = [asyncio.run(ours.rows_alone(isolation, {}))[0][0]]
        for way in (ours.begin, ours.look, ours.read, ours.begin):
            with way() as session:
                told.append(session.scalar(sa.text(isolation)))
    assert told == ["read committed"] * 5


@pytest.mark.parametrize("by_driver", [False, True])
def test_what_a_silent_host_has_locked_is_free_once_its_session_is_ended(postgresql_database, by_driver):
    with postgresql_database.begin() as session:
        session.execute(sa.text("CREATE TABLE gates AS SELECT 1 AS a"))
    lock = "SELECT a FROM gates FOR UPDATE"
    told_at_once = []

    def falls_silent(database):
        with database.begin() as session:
            session.execute(sa.text(lock))
            # It waits for the lock, and gets it.
            with postgresql_database.begin() as other:
                assert other.scalar(sa.text(lock)) == 1
            try:
                session.rows(lock, {}) if by_driver else session.execute(sa.text(lock))
            except Exception as error:
                told_at_once.append(type(error))
                raise

    with contextlib.closing(patient_for(postgresql_database, 50)) as cut_off:
        with pytest.raises(DatabaseAwayError):
            falls_silent(cut_off)
        with cut_off.begin() as session:
            assert session.scalar(sa.text(lock)) == 1
    assert told_at_once == [DatabaseAwayError]


def test_a_deadlock_counts_as_a_database_that_is_away(postgresql_database):
    with postgresql_database.begin() as session:
        session.execute(sa.text("SET LOCAL deadlock_timeout = '50ms'"))
        session.execute(sa.text("CREATE TABLE knot AS SELECT 1 AS a UNION SELECT 2"))
    met = threading.Barrier(2)
    errors = []

    def tie(first, second):
        try:
            with postgresql_database.begin() as session:
                session.execute(sa.text("SET LOCAL deadlock_timeout = '50ms'"))
                session.execute(sa.text("UPDATE knot SET a = a WHERE a = :a"), {"a": first})
                met.wait()
                session.execute(sa.text("UPDATE knot SET a = a WHERE a = :a"), {"a": second})
        except DatabaseAwayError as error:
            errors.append(error)

    threads = [threading.Thread(target=tie, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(errors) == 1
    assert "DeadlockDetected" in str(errors[0])


@pytest.mark.parametrize("what", ["pg_sleep(5)", "1"])
def test_a_statement_that_was_cancelled_or_whose_server_process_ended_counts_so_too(postgresql_database, what):
    cancel = "SET LOCAL statement_timeout = 50" if what != "1" else "SELECT pg_terminate_backend(pg_backend_pid())"

    def ask():
        with postgresql_database.begin() as session:
            session.execute(sa.text(cancel))
            session.execute(sa.text(f"SELECT {what}"))

    with pytest.raises(DatabaseAwayError):
        ask()


def test_a_connection_that_died_while_it_lay_idle_is_replaced_before_it_is_used(postgresql_database, monkeypatch):
    monkeypatch.setattr("service.store.pooling.TRUSTED_SECONDS", 0.0)
    own = sa.text("SELECT pg_backend_pid()")
    with postgresql_database.read() as session:
        before = session.scalar(own)
        with postgresql_database.begin() as other:
            second = other.scalar(own)
    with postgresql_database.begin() as killer:
        alive = killer.scalar(own)
        doomed = before if alive == second else second
        killer.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": doomed})
    with postgresql_database.read() as first, postgresql_database.read() as session:
        assert doomed not in {first.scalar(own), session.scalar(own)}


@pytest.mark.parametrize(
    "statement",
    ["SELECT pg_terminate_backend(pg_backend_pid())", "DO $$ BEGIN RAISE deadlock_detected; END $$"],
)
def test_what_the_driver_is_asked_by_itself_fails_as_everything_else_does(postgresql_database, statement):
    with pytest.raises(DatabaseAwayError), postgresql_database.begin() as session:
        session.rows(statement, {})
    with postgresql_database.begin() as session:
        assert session.rows("SELECT %(a)s::int", {"a": 1}) == [(1,)]


def test_a_duplicate_that_the_driver_reports_names_its_rule_and_no_value(postgresql_database):
    with postgresql_database.begin() as session:
        session.execute(sa.text("CREATE TABLE twins (a int CONSTRAINT no_twins PRIMARY KEY)"))
    insert = "INSERT INTO twins VALUES (%(a)s), (%(a)s) RETURNING a"
    with pytest.raises(DuplicateError, match="no_twins") as caught, postgresql_database.begin() as session:
        session.rows(insert, {"a": 4711})
    assert "4711" not in str(caught.value)


def test_a_statement_alone_is_committed_and_seen_by_transactions(postgresql_database, loop):
    made = "CREATE TABLE lasting (a int PRIMARY KEY)"
    with postgresql_database.begin() as session:
        session.execute(sa.text(made))
    insert = "INSERT INTO lasting VALUES (%(a)s) RETURNING a"
    assert loop.run(postgresql_database.rows_alone(insert, {"a": 1})) == [(1,)]
    with pytest.raises(DuplicateError), postgresql_database.begin() as session:
        session.execute(sa.text("INSERT INTO lasting VALUES (2), (1)"))
    with postgresql_database.read() as session:
        assert session.execute(sa.text("SELECT a FROM lasting")).scalars().all() == [1]


OWN = "SELECT pg_backend_pid()"


def test_statements_alone_of_one_loop_share_a_connection_and_wait_for_each_other(postgresql_database, loop):
    async def three():
        return await asyncio.gather(*(postgresql_database.rows_alone(OWN, {}) for _ in range(3)))

    found = loop.run(three())
    assert found[0] == found[1] == found[2] == loop.run(postgresql_database.rows_alone(OWN, {}))
    with postgresql_database.read() as session:
        assert session.scalar(sa.text(OWN)) != found[0][0][0]


def test_another_loop_gets_a_connection_of_its_own_and_that_of_an_ended_one_is_closed(postgresql_database, loop):
    first = loop.run(postgresql_database.rows_alone(OWN, {}))[0][0]
    assert asyncio.run(postgresql_database.rows_alone(OWN, {}))[0][0] != first
    alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = %(pid)s"
    give_up = time.monotonic() + 10
    while loop.run(postgresql_database.rows_alone(alive, {"pid": first})) != [(0,)]:
        assert time.monotonic() < give_up
    assert postgresql_database.losses == 0


def test_a_statement_alone_waits_for_a_server_that_went_away_while_its_connection_lay_idle(
    postgresql_database, monkeypatch, loop
):
    monkeypatch.setattr("service.store.pooling.TRUSTED_SECONDS", 0.0)
    url = postgresql_database.url
    with Proxy(Path(str(url.query["host"])) / ".s.PGSQL.5432") as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port, query={})
        database = Database(through.render_as_string(hide_password=False), Sealer(KEYRING))
        assert loop.run(database.rows_alone("SELECT 1", {})) == [(1,)]
        proxy.weather.refusing = True
        proxy.reset()
        for _ in range(2):
            with pytest.raises(DatabaseAwayError):
                loop.run(database.rows_alone("SELECT 1", {}))
        assert database.losses == 1
        proxy.weather.refusing = False
        assert loop.run(database.rows_alone("SELECT 1", {})) == [(1,)]
        database.close()


def test_a_connection_of_a_loop_that_died_while_it_lay_idle_is_replaced_and_counted(
    postgresql_database, monkeypatch, loop
):
    monkeypatch.setattr("service.store.pooling.TRUSTED_SECONDS", 0.0)
    before = loop.run(postgresql_database.rows_alone(OWN, {}))[0][0]
    with postgresql_database.begin() as session:
        session.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": before})
    assert loop.run(postgresql_database.rows_alone(OWN, {}))[0][0] != before
    assert postgresql_database.losses == 1


@pytest.mark.parametrize(
    ("statement", "losses"),
    [("SELECT pg_terminate_backend(pg_backend_pid())", 1), ("DO $$ BEGIN RAISE deadlock_detected; END $$", 0)],
)
def test_a_statement_alone_fails_as_everything_else_does(postgresql_database, loop, statement, losses):
    with pytest.raises(DatabaseAwayError):
        loop.run(postgresql_database.rows_alone(statement, {}))
    assert postgresql_database.losses == losses
    assert loop.run(postgresql_database.rows_alone("SELECT 1", {})) == [(1,)]


def test_a_statement_alone_that_is_called_off_leaves_no_answer_to_the_next(postgresql_database, loop):
    async def call_off():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(postgresql_database.rows_alone("SELECT 4711 FROM pg_sleep(30)", {}), 0.1)
        return await postgresql_database.rows_alone("SELECT 1", {})

    assert loop.run(call_off()) == [(1,)]


def test_a_child_does_not_use_its_parents_connection(postgresql_database, loop):
    own = loop.run(postgresql_database.rows_alone(OWN, {}))[0][0]

    def child():
        found = asyncio.run(postgresql_database.rows_alone(OWN, {}))[0][0]
        os._exit(0 if found != own else 1)

    forked = multiprocessing.get_context("fork").Process(target=child)
    forked.start()
    forked.join(30)
    assert forked.exitcode == 0
    assert loop.run(postgresql_database.rows_alone(OWN, {}))[0][0] == own


def test_where_connections_are_scarce_a_process_does_with_one_for_a_minute(postgresql_database, loop, monkeypatch):
    count = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    loop.run(postgresql_database.rows_alone("SELECT 1", {}))
    with postgresql_database.read() as session:
        assert session.scalar(count) == 2
    assert postgresql_database.asks_alone

    postgresql_database.run_short()

    with postgresql_database.read() as session:
        until_ended = time.monotonic() + 10
        while session.scalar(count) != 1:
            assert time.monotonic() < until_ended
    assert not postgresql_database.asks_alone
    later = time.monotonic() + 61
    monkeypatch.setattr("service.store.database.time.monotonic", lambda: later)
    assert postgresql_database.asks_alone


def test_a_connection_that_is_let_go_in_mid_work_counts_as_lost(postgresql_database, loop):
    """What answers the next one may be another server."""
    loop.run(postgresql_database.rows_alone("SELECT 1", {}))
    before = postgresql_database.losses
    postgresql_database.run_short()
    assert postgresql_database.losses == before + 1
    postgresql_database.run_short()
    assert postgresql_database.losses == before + 1


def test_a_connection_in_use_is_not_let_go(postgresql_database, loop):
    async def meanwhile():
        asked = asyncio.create_task(postgresql_database.rows_alone("SELECT pg_sleep(0.2), 7", {}))
        await asyncio.sleep(0.1)
        postgresql_database.run_short()
        return await asked

    assert loop.run(meanwhile())[0][1] == 7
