"""What a database says when it is away, busy or in a knot is one error, which callers wait out."""

import contextlib
import socket
import threading
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
        told = [ours.rows_alone(isolation, {})[0][0]]
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
    monkeypatch.setattr("service.store.database._TRUSTED_SECONDS", 0.0)
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


def test_a_statement_alone_is_committed_and_its_connection_serves_transactions_again(postgresql_database):
    made = "CREATE TABLE lasting (a int PRIMARY KEY)"
    with postgresql_database.begin() as session:
        session.execute(sa.text(made))
    assert postgresql_database.rows_alone("INSERT INTO lasting VALUES (%(a)s) RETURNING a", {"a": 1}) == [(1,)]
    with pytest.raises(DuplicateError), postgresql_database.begin() as session:
        session.execute(sa.text("INSERT INTO lasting VALUES (2), (1)"))
    with postgresql_database.read() as session:
        assert session.execute(sa.text("SELECT a FROM lasting")).scalars().all() == [1]


def test_a_statement_alone_waits_for_a_server_that_went_away_while_its_connection_lay_idle(
    postgresql_database, monkeypatch
):
    monkeypatch.setattr("service.store.database._TRUSTED_SECONDS", 0.0)
    url = postgresql_database.url
    with Proxy(Path(str(url.query["host"])) / ".s.PGSQL.5432") as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port, query={})
        database = Database(through.render_as_string(hide_password=False), Sealer(KEYRING))
        assert database.rows_alone("SELECT 1", {}) == [(1,)]
        proxy.weather.refusing = True
        proxy.reset()
        for _ in range(2):
            with pytest.raises(DatabaseAwayError):
                database.rows_alone("SELECT 1", {})
        proxy.weather.refusing = False
        assert database.rows_alone("SELECT 1", {}) == [(1,)]
        database.close()


@pytest.mark.parametrize(
    "statement",
    ["SELECT pg_terminate_backend(pg_backend_pid())", "DO $$ BEGIN RAISE deadlock_detected; END $$"],
)
def test_a_statement_alone_fails_as_everything_else_does(postgresql_database, statement):
    with pytest.raises(DatabaseAwayError):
        postgresql_database.rows_alone(statement, {})
    with postgresql_database.read() as session:
        assert session.scalar(sa.text("SELECT 1")) == 1
