"""An installation's database and its keyring: founded together, migrated, and never parted."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from service.domain.errors import ConfigurationError
from service.domain.keys import Keyring
from service.embedded.keyring_file import read_keyring, write_keyring
from service.store import Database, Sealer, provider_keys, schema


def upgrade(url: str, keyring_path: Path) -> tuple[str | None, str]:
    """Create or migrate the schema, with a new keyring for a new database; the revisions before and after.

    Safe to call again. Raises ConfigurationError where database and keyring do not belong together.
    """
    if not keyring_path.exists():
        keyring = Keyring.create(os.urandom)
        _look(url, keyring_path, keyring)
        write_keyring(keyring_path, keyring)
    with closing(_database(url, read_keyring(keyring_path))) as database:
        before, after = schema.upgrade(database)
        schema.adopt_keyring(database)
        # What only the keyring can tell of rows from before; called again where that was interrupted.
        provider_keys.fill(database)
    return before, after


def rehearse(url: str, keyring_path: Path) -> tuple[str | None, str]:
    """What `upgrade` would return or raise; nothing is changed, and no file is made."""
    there = keyring_path.exists()
    before = _look(url, keyring_path, read_keyring(keyring_path) if there else Keyring.create(os.urandom))
    return before, max(before or schema.NEWEST, schema.NEWEST)


def _look(url: str, keyring_path: Path, keyring: Keyring) -> str | None:
    """The schema's revision; raises ConfigurationError unless the keyring is its own, or may become so."""
    with closing(_database(url, keyring)) as database:
        if not (database.postgresql or Path(database.url.database or "").exists()):
            return None
        before = schema.revision(database)
        if before is None:
            return None
        if not keyring_path.exists():
            raise ConfigurationError(
                f"{keyring_path}: no keyring, but the database was sealed with one; restore the file from your backup "
                "or point TYDZEN_SECRET_KEY_FILE at it"
            )
        schema.require_keyring(database)
    return before


def _database(url: str, keyring: Keyring) -> Database:
    return Database(url, Sealer(keyring))
