"""Named locks with an expiry, by the database's clock: a holder that dies costs no more than the lock's seconds."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.store.database import Session
from service.store.instants import database_now
from service.store.tables import locks

# Any number that nothing else in the database uses: batches get their ids one transaction at a time.
_BATCH_IDS_LOCK = 0x7479647A


def take(session: Session, name: str, seconds: float) -> bool:
    """Whether the lock was free and is now held for `seconds`, always as many for one name; commit to make it so.

    Where the clock was set back, one that seems to be held for more than twice as long is free.
    """
    values = {"wanted": name, "for_ms": int(seconds * 1000)}
    return session.execute(_taking(on_postgresql=session.postgresql), values).first() is not None


@cache
def _taking(*, on_postgresql: bool) -> sa.Executable:
    insert = postgresql.insert if on_postgresql else sqlite.insert
    now = database_now(postgresql=on_postgresql)
    lasts = sa.bindparam("for_ms", type_=sa.BigInteger)
    until = now + lasts
    statement = insert(locks).values(name=sa.bindparam("wanted"), until=until)
    free = sa.or_(locks.c.until <= now, locks.c.until > until + lasts)
    return statement.on_conflict_do_update(index_elements=[locks.c.name], set_={"until": until}, where=free).returning(
        locks.c.name
    )


def extend(session: Session, name: str, seconds: float) -> None:
    """Hold a lock that was taken for `seconds` from now."""
    until = database_now(postgresql=session.postgresql) + int(seconds * 1000)
    session.execute(locks.update().where(locks.c.name == name).values(until=until))


def release(session: Session, name: str) -> None:
    """Give the lock back."""
    session.execute(locks.update().where(locks.c.name == name).values(until=0))


def serialise_batch_ids(session: Session) -> None:
    """Wait until no other transaction is giving out batch ids. SQLite has one writer anyway."""
    if session.postgresql:
        session.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _BATCH_IDS_LOCK})
