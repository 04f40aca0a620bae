import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.domain.errors import ConfigurationError
from service.domain.keys import Keyring
from service.store import Database, DatabaseAwayError, DuplicateError, Sealer, schema
from service.store.tables import meta, metadata
from tests.conftest import KEYRING


def test_a_new_database_has_the_schema_and_the_keyring(database):
    schema.require_current(database)


def test_another_keyring_is_refused_and_the_message_names_the_setting(database):
    other = Database(database.url.render_as_string(hide_password=False), Sealer(Keyring({1: b"x" * 32})))
    with pytest.raises(ConfigurationError, match="TYDZEN_SECRET_KEY_FILE"):
        schema.require_current(other)
    other.close()


@pytest.mark.parametrize("octets", [b"garbage\n", b"garbage\n" * 1000])
def test_a_file_that_is_no_database_is_named_and_left_as_it_is(tmp_path, octets):
    path = tmp_path / "tydzen.sqlite3"
    path.write_bytes(octets)
    database = Database(f"sqlite:///{path}", Sealer(KEYRING))
    for use in (database.read, database.begin):
        with pytest.raises(ConfigurationError) as caught, use():
            pass
        assert str(caught.value) == f"{path} is not an SQLite database: restore your backup"
    with pytest.raises(ConfigurationError, match="restore your backup"):
        schema.upgrade(database)
    database.close()
    assert path.read_bytes() == octets


def test_a_second_row_of_the_same_key_is_a_duplicate_and_names_no_value(database):
    with database.begin() as session:
        session.execute(meta.insert().values(key="k", value="canary-value"))
    with pytest.raises(DuplicateError) as caught, database.begin() as session:
        session.execute(meta.insert().values(key="k", value="canary-value"))
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_calls_after_commit_run_only_when_it_is_durable(database):
    rung = []
    with database.begin() as session:
        session.after_commit(lambda: rung.append("first"))
    with pytest.raises(ZeroDivisionError):
        _ring_and_fail(database, rung)
    assert rung == ["first"]


def _ring_and_fail(database, rung):
    with database.begin() as session:
        session.after_commit(lambda: rung.append("second"))
        raise ZeroDivisionError


def test_calls_after_commit_keep_no_connection_from_others(database):
    used = []
    with database.begin() as session:
        session.after_commit(lambda: used.append(database.engine.pool.checkedout()))
    assert used == [0]


def test_what_is_to_follow_is_done_once_in_a_transaction_of_its_own_when_all_calls_are_through(database):
    told = []

    def follow(session):
        told.append("follows")
        session.execute(meta.insert().values(key="followed", value=""))

    def call(session):
        told.append("called")
        session.afterwards(follow)

    with database.begin() as session:
        for _ in range(2):
            session.after_commit(lambda: call(session))
    assert told == ["called", "called", "follows"]
    with database.read() as session:
        assert session.scalar(sa.select(meta.c.value).where(meta.c.key == "followed")) == ""


def test_what_is_to_follow_is_left_undone_where_the_database_is_away_by_then(database):
    def away(_session):
        raise DatabaseAwayError("away")

    with database.begin() as session:
        session.after_commit(lambda: session.afterwards(away))
        session.execute(meta.insert().values(key="committed", value=""))
    with database.read() as session:
        assert session.scalar(sa.select(meta.c.value).where(meta.c.key == "committed")) == ""


def test_a_connection_in_use_when_the_database_is_closed_is_closed_when_it_comes_back(database):
    assert_closed_when_it_comes_back(database, database.close)


def test_a_connection_in_use_when_idle_ones_are_given_back_is_closed_when_it_comes_back(postgresql_database):
    assert_closed_when_it_comes_back(postgresql_database, postgresql_database.give_back)


def assert_closed_when_it_comes_back(database, dispose):
    count = sa.select(sa.func.count()).select_from(meta)
    with database.begin() as session:
        driver = session.connection.connection.driver_connection
        dispose()
        assert session.scalar(count) > 0
    with pytest.raises(Exception, match=r"[Cc]annot operate on a closed database|the connection is closed"):
        driver.execute("SELECT 1")
    with database.begin() as session:
        assert session.scalar(count) > 0


def test_the_newest_revision_is_the_one_of_the_migrations():
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.NEWEST


def test_the_tables_are_those_of_the_migrations(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_sqlite_is_durable_at_every_commit(sqlite_database):
    with sqlite_database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
