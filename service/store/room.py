"""How many connections are to be had."""

from __future__ import annotations

from contextlib import ExitStack

from service.store.database import Database
from service.store.errors import DatabaseAwayError


def has_room(database: Database, connections: int) -> bool:
    """Whether this process may have so many connections at once now: a server or a role may be limited to fewer.

    SQLite has one writer, and so room for one.
    """
    if not database.postgresql:
        return connections <= 1
    with ExitStack() as held:
        try:
            for _ in range(connections):
                held.enter_context(database.look())
        except DatabaseAwayError:
            return False
    return True
