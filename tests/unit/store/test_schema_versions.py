"""Programs and schemas of different age: who may work with what."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from service.domain.errors import ConfigurationError
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.store import Session, schema, subscribers, tables
from tests.factories import add_readers
from tests.growth import sums
from tests.next_version import NEXT, next_migrations
from tests.unit.delivery.parts import wait_for_a_waiter


def test_a_newer_schema_that_only_adds_is_worked_with(database, tmp_path):
    assert schema.upgrade(database, migrations=next_migrations(tmp_path / "next")) == (schema.NEWEST, NEXT)
    schema.require_current(database)


def test_a_newer_schema_that_takes_something_away_is_refused_in_words(database, tmp_path):
    schema.upgrade(database, migrations=next_migrations(tmp_path / "next", compatible_from=NEXT))
    with pytest.raises(ConfigurationError, match=f"asks for a program of {NEXT} or newer; this one is {schema.NEWEST}"):
        schema.require_current(database)


def test_an_older_program_that_upgrades_leaves_a_newer_schema_alone(database, tmp_path):
    schema.upgrade(database, migrations=next_migrations(tmp_path / "next"))
    assert schema.upgrade(database) == (NEXT, NEXT)
    assert schema.revision(database) == NEXT


def test_a_migration_that_waits_for_a_table_keeps_nobody_waiting_behind_it(postgresql_database, tmp_path):
    database = postgresql_database
    with ThreadPoolExecutor(2) as others, database.begin() as long:
        in_use = sa.select(sa.func.count()).select_from(tables.deliveries)
        long.execute(in_use)
        upgraded = others.submit(schema.upgrade, database, migrations=next_migrations(tmp_path / "next"))
        wait_for_a_waiter(database)

        def ask():
            with database.read() as session:
                return session.scalar(in_use)

        assert others.submit(ask).result(timeout=60) == 0
        assert not upgraded.done()
        long.execute(sa.text("ROLLBACK"))
        assert upgraded.result(timeout=60) == (schema.NEWEST, NEXT)


def test_an_older_schema_is_refused_with_the_command_that_mends_it(database):
    with database.begin() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(ConfigurationError, match="run: tydzen db upgrade"):
        schema.require_current(database)


def test_readers_of_0005_stay_and_are_counted_from_0006_on(database):
    address, *_ = add_readers(database, 3, chains=("en",))
    set_back(database, "0005")
    assert not sa.inspect(database.engine).has_table("growth")
    assert schema.upgrade(database) == ("0005", schema.NEWEST)
    assert sums(database) == {}
    with database.begin() as session:
        assert subscribers.active(session) == {"en": 3}
        reader = subscribers.find(session, address)
        subscribers.set_status(session, reader.id, SubscriberStatus.UNSUBSCRIBED, week=Week(2019, 23))
    assert sums(database) == {("2019-W23", "en"): {"left": 1}}


def set_back(database, revision):
    """What the migrations after it made is taken away."""
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    with database.engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def test_every_migration_says_which_programs_may_go_on_with_it():
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    for script in ScriptDirectory.from_config(config).walk_revisions():
        assert script.module.compatible_from <= script.revision


def test_the_servers_cache_and_the_readers_table_are_told_in_octets(postgresql_database, sqlite_database):
    with postgresql_database.read() as session:
        memory, table = schema.cache(session)
        assert memory == session.scalar(
            sa.text("SELECT setting::bigint * 8192 FROM pg_settings WHERE name = 'shared_buffers'")
        )
        assert 0 < table < memory
    with sqlite_database.read() as session:
        assert schema.cache(session) is None


def test_a_user_who_may_make_no_temporary_tables_is_found_out_before_an_issue_is_planned(postgresql_database):
    with postgresql_database.engine.connect() as connection, connection.begin() as transaction:
        session = Session(connection, postgresql_database.sealer)
        assert schema.may_plan(session)
        for statement in (
            "CREATE ROLE tydzen_without_rights",
            f"REVOKE TEMPORARY ON DATABASE {connection.engine.url.database} FROM PUBLIC",
            "SET LOCAL ROLE tydzen_without_rights",
        ):
            connection.execute(sa.text(statement))
        assert not schema.may_plan(session)
        transaction.rollback()
