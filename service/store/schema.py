"""The schema: migrated by Alembic, and tied to the keyring that sealed what it holds."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.domain.errors import ConfigurationError
from service.store.database import Database, translated
from service.store.tables import meta

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def upgrade(database: Database) -> tuple[str | None, str]:
    """Bring the schema to the newest revision; returns the revisions before and after. Safe to call again."""
    config = _config()
    with translated(), database.engine.connect() as connection:
        with connection.begin():
            before = MigrationContext.configure(connection).get_current_revision()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            after = MigrationContext.configure(connection).get_current_revision()
        assert after is not None
        return before, after


def exists(database: Database) -> bool:
    """Whether the database holds our schema in any revision."""
    with translated(), database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() is not None


def require_current(database: Database) -> None:
    """Raise ConfigurationError unless the schema is this program's and the keyring the one it was sealed with."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    with translated(), database.engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current is None:
        raise ConfigurationError("the database has no schema yet; run: tydzen db upgrade")
    if current != newest:
        raise ConfigurationError(f"the database's schema is {current}, this program's {newest}; run: tydzen db upgrade")
    with database.read() as session:
        known = session.scalar(sa.select(meta.c.value).where(meta.c.key == "keyring"))
    if known != database.sealer.fingerprint:
        raise ConfigurationError(
            "the keyring is not the one this database was sealed with; point TYDZEN_SECRET_KEY_FILE at the right one"
        )


def adopt_keyring(database: Database) -> None:
    """Store the keyring's fingerprint in a new database; raises ConfigurationError if it has another's."""
    with database.begin() as session:
        known = session.scalar(sa.select(meta.c.value).where(meta.c.key == "keyring"))
        if known is None:
            session.execute(meta.insert().values(key="keyring", value=database.sealer.fingerprint))
    require_current(database)
