"""The schema: migrated by Alembic, and tied to the keyring that sealed what it holds."""

from __future__ import annotations

import time
from pathlib import Path

import sqlalchemy as sa

from service.domain.errors import ConfigurationError
from service.store.database import Database, Session, translated
from service.store.errors import DatabaseAwayError
from service.store.tables import meta

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
# The newest revision in `migrations`, which a test compares: asking Alembic would cost each command half a second.
NEWEST = "0007"
_COMPATIBLE_FROM = "compatible_from"
# Whoever comes after a migration that waits for a table waits behind it, readers at the site among them: so it waits
# for a moment only, lets them pass, and tries again.
_PATIENCE = sa.text("SET LOCAL lock_timeout = '1s'")
_PAUSE, _TRIES = 1.0, 30  # seconds


def upgrade(database: Database, *, migrations: Path = MIGRATIONS) -> tuple[str | None, str]:
    """Bring the schema to the newest revision; returns the revisions before and after. Safe to call again.

    A schema that a newer program has brought further already stays as it is. Raises DatabaseAwayError where tables stay
    in use for a minute.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrations))
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    assert head is not None
    before = revision(database)
    if before is not None and before > head:
        return before, before
    compatible_from = scripts.get_revision(head).module.compatible_from

    def migrate() -> None:
        with translated(), database.engine.connect() as connection, connection.begin():
            if database.postgresql:
                from service.store import silence

                silence.let_last(connection)
                connection.execute(_PATIENCE)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            # Said by the migration itself, and kept beside the schema: programs that must know it are older than it.
            _write_meta(connection, _COMPATIBLE_FROM, compatible_from)

    tries = _TRIES if database.postgresql else 1
    while True:
        try:
            migrate()
        except DatabaseAwayError:
            tries -= 1
            if not tries:
                raise
            time.sleep(_PAUSE)
        else:
            return before, head


def _write_meta(connection: sa.Connection, key: str, value: str) -> None:
    connection.execute(meta.delete().where(meta.c.key == key))
    connection.execute(meta.insert().values(key=key, value=value))


def revision(database: Database) -> str | None:
    """The revision of our schema that the database holds; None where it holds none."""
    with translated(), database.engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return found


def exists(database: Database) -> bool:
    """Whether the database holds our schema in any revision."""
    return revision(database) is not None


def require_current(database: Database) -> None:
    """Raise ConfigurationError unless this program may work with the schema, and the keyring is its own.

    A newer schema will do where its migration says that programs of this revision may go on with it, so that old and
    new workers run side by side while an installation is upgraded; an older one never does.
    """
    current = revision(database)
    if current is None:
        raise ConfigurationError("the database has no schema yet; run: tydzen db upgrade")
    if current < NEWEST:
        raise ConfigurationError(f"the database's schema is {current}, this program's {NEWEST}; run: tydzen db upgrade")
    if current > NEWEST:
        _require_compatible(database, current)
    require_keyring(database)


def require_keyring(database: Database) -> None:
    """Raise ConfigurationError unless what the database holds is sealed with this keyring."""
    with database.read() as session:
        known = session.scalar(sa.select(meta.c.value).where(meta.c.key == "keyring"))
    if known != database.sealer.fingerprint:
        raise ConfigurationError(
            "the keyring is not the one this database was sealed with; point TYDZEN_SECRET_KEY_FILE at the right one"
        )


def _require_compatible(database: Database, current: str) -> None:
    with database.read() as session:
        oldest = session.scalar(sa.select(meta.c.value).where(meta.c.key == _COMPATIBLE_FROM))
    if oldest is None or oldest > NEWEST:
        raise ConfigurationError(
            f"the database's schema is {current} and asks for a program of {oldest or current} or newer; "
            f"this one is {NEWEST}: install the newer program here, too"
        )


def adopt_keyring(database: Database) -> None:
    """Store the keyring's fingerprint in a new database; raises ConfigurationError if it has another's."""
    with database.begin() as session:
        known = session.scalar(sa.select(meta.c.value).where(meta.c.key == "keyring"))
        if known is None:
            session.execute(meta.insert().values(key="keyring", value=database.sealer.fingerprint))
    require_current(database)


def cache(session: Session) -> tuple[int, int] | None:
    """Octets that the server keeps of its tables in memory, and octets of the readers' table; None on SQLite.

    Each gate looks up readers who lie all over that table: where it does not fit, a page is read for nearly each.
    """
    if not session.postgresql:
        return None
    memory = session.scalar(sa.text("SELECT pg_size_bytes(current_setting('shared_buffers'))"))
    return int(memory), int(session.scalar(sa.text("SELECT pg_table_size('subscribers')")))


def may_plan(session: Session) -> bool:
    """Whether this user may make the temporary tables by which readers are frozen; everybody may, if not forbidden."""
    if not session.postgresql:
        return True
    return bool(session.scalar(sa.text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")))
