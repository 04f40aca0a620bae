"""The schema: migrated by Alembic, and tied to the keyring that sealed what it holds."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from service.domain.errors import ConfigurationError
from service.store.database import Database, translated
from service.store.tables import meta

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
# The newest revision in `migrations`, which a test compares: asking Alembic would cost each command half a second.
NEWEST = "0002"


def upgrade(database: Database) -> tuple[str | None, str]:
    """Bring the schema to the newest revision; returns the revisions before and after. Safe to call again."""
    from alembic import command
    from alembic.config import Config

    before = revision(database)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with translated(), database.engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    after = revision(database)
    assert after is not None
    return before, after


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
    """Raise ConfigurationError unless the schema is this program's and the keyring the one it was sealed with."""
    current = revision(database)
    if current is None:
        raise ConfigurationError("the database has no schema yet; run: tydzen db upgrade")
    if current != NEWEST:
        raise ConfigurationError(f"the database's schema is {current}, this program's {NEWEST}; run: tydzen db upgrade")
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
