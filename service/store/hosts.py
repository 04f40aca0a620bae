"""Hosts: how far each had come, and whose journals must be compared before a restored database is believed again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.store.database import Session
from service.store.engine_tables import hosts
from service.store.instants import database_now, loaded, stored

# A host that was not seen for a week before has no letters under way.
_AWAITED_MS = 7 * 86_400_000
# Nor did it send in the moments by which a copy lags behind, if it had not been seen for so long before.
_ABOUT_MS = 600_000


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the database knows of a host, and which running database says so.

    `mark` is None for a host it does not know; `awaited_since`, in milliseconds since 1970, unless it is None, since
    when the host must compare its journals with it. `unheard` is whether another one must before anybody claims.
    """

    mark: int | None
    awaited_since: int | None
    database: str
    unheard: bool = False

    @property
    def awaited(self) -> bool:
        """Whether the host must compare its journals."""
        return self.awaited_since is not None


@dataclass(frozen=True, slots=True)
class AwaitedHost:
    """A host whose journals have not been compared yet, since when, and when it was seen last."""

    host: str
    since: dt.datetime
    seen_at: dt.datetime


_POSTGRESQL_SIGHT = sa.text(
    """
    SELECT h.mark, h.awaited_since, extract(epoch FROM pg_postmaster_start_time()) || ' ' || d.oid AS database,
      EXISTS (
        SELECT FROM hosts o WHERE o.host <> :host AND o.seen_at <= o.unheard_since
        AND extract(epoch FROM clock_timestamp()) * 1000 BETWEEN o.unheard_since AND o.unheard_until
      ) AS unheard
    FROM pg_database d LEFT JOIN hosts h ON h.host = :host WHERE d.datname = current_database()
    """
)
_SQLITE_SIGHT = sa.text("SELECT mark, awaited_since FROM hosts WHERE host = :host")


def sight(session: Session, host: str) -> Sighting:
    """What the database knows of the host: one small query, once for each batch. SQLite has one host alone."""
    if session.postgresql:
        row = session.execute(_POSTGRESQL_SIGHT, {"host": host}).one()
        return Sighting(row.mark, row.awaited_since, row.database, row.unheard)
    found = session.execute(_SQLITE_SIGHT, {"host": host}).first()
    database = _sqlite_file(session)
    if found is None:
        return Sighting(None, None, database)
    return Sighting(found.mark, found.awaited_since, database)


def _sqlite_file(session: Session) -> str:
    """The file itself, by its number: one that was put in its place is another database."""
    try:
        status = Path(str(session.connection.engine.url.database)).stat()
    except OSError:
        return "none"
    return f"{status.st_dev}:{status.st_ino}"


def raise_mark(session: Session, host: str, mark: int, database: str) -> int:
    """The host is there, has come as far as `mark`, and its journals hold nothing that this `database` does not know.

    Returns when that was, in milliseconds since 1970 by the database's clock.
    """
    statement = _raising(on_postgresql=session.postgresql)
    values = {"this_host": host, "reached": mark, "compared_with": database}
    return int(session.execute(statement, values).scalar_one())


@cache
def _raising(*, on_postgresql: bool) -> sa.Executable:
    insert = postgresql.insert if on_postgresql else sqlite.insert
    clock = database_now(postgresql=on_postgresql)
    values: dict[str, Any] = {
        "mark": sa.bindparam("reached", type_=hosts.c.mark.type),
        "seen_at": clock,
        "awaited_since": None,
        "database": sa.bindparam("compared_with", type_=hosts.c.database.type),
        "unheard_since": None,
        "unheard_until": None,
    }
    statement = insert(hosts).values(host=sa.bindparam("this_host"), **values)
    return statement.on_conflict_do_update(index_elements=[hosts.c.host], set_=values).returning(hosts.c.seen_at)


def wait_for_others(session: Session, host: str, database: str, *, seconds: float) -> None:
    """Every other host that was about lately, and compared its journals with another database, is `unheard` from now.

    For so many `seconds` at most, and until it is seen again: older programs do not say what they compared with. What
    such a host sent in the last moments this database may lack, if it is a copy that lagged behind. To be said by
    whoever finds this one, before it raises its own mark.
    """
    if not session.postgresql:
        return  # one host alone
    _hold_all(session)
    clock = stored(session.now())
    # By a clock that was set back since, some may have been seen later than now.
    newest = sa.select(sa.func.max(hosts.c.seen_at)).where(hosts.c.seen_at <= clock).scalar_subquery()
    lately = hosts.c.seen_at >= newest - _ABOUT_MS
    elsewhere = [hosts.c.host != host, hosts.c.database != database, hosts.c.unheard_since.is_(None), lately]
    times = {"unheard_since": clock, "unheard_until": clock + round(seconds * 1000)}
    session.execute(hosts.update().where(*elsewhere).values(times))


def unheard(session: Session) -> list[AwaitedHost]:
    """The hosts that have not looked at the database that answers now, by name; nobody goes on before they have."""
    clock = stored(session.now())
    lacking = [hosts.c.unheard_since <= clock, hosts.c.unheard_until >= clock, hosts.c.seen_at <= hosts.c.unheard_since]
    statement = sa.select(hosts).where(*lacking).order_by(hosts.c.host)
    return [AwaitedHost(row.host, loaded(row.unheard_since), loaded(row.seen_at)) for row in session.execute(statement)]


def _hold_all(session: Session) -> None:
    """In the order of their names: two that find the same database at once would wait for each other for ever."""
    session.execute(sa.select(hosts.c.host).order_by(hosts.c.host).with_for_update()).all()


def about(session: Session, host: str) -> dict[str, int]:
    """The other hosts that were about in the week before the database was last used, and when each was seen last."""
    return {row.host: row.seen_at for row in session.execute(_ABOUT, {"this_host": host})}


_RECENT = hosts.c.seen_at >= sa.select(sa.func.max(hosts.c.seen_at)).scalar_subquery() - _AWAITED_MS
_ABOUT = sa.select(hosts.c.host, hosts.c.seen_at).where(hosts.c.host != sa.bindparam("this_host"), _RECENT)


def await_all(session: Session, host: str, remembered: Mapping[str, int]) -> None:
    """Wait for this host, for every other that is about, and for those `remembered`, each seen last at that instant.

    A database that was set back may know nothing of a host that came after the backup.
    """
    if session.postgresql:
        _hold_all(session)
    clock = database_now(postgresql=session.postgresql)
    session.execute(hosts.update().where(hosts.c.host != host, _RECENT).values(awaited_since=clock))
    statement = _awaiting(on_postgresql=session.postgresql)
    # In the order of their names, again: those that are not there yet nobody can hold.
    for one, seen in sorted({**remembered, host: stored(session.now())}.items()):
        session.execute(statement, {"one_host": one, "seen": seen})


@cache
def _awaiting(*, on_postgresql: bool) -> sa.Executable:
    insert = postgresql.insert if on_postgresql else sqlite.insert
    clock = database_now(postgresql=on_postgresql)
    seen = sa.bindparam("seen", type_=hosts.c.seen_at.type)
    statement = insert(hosts).values(host=sa.bindparam("one_host"), mark=0, seen_at=seen, awaited_since=clock)
    return statement.on_conflict_do_update(index_elements=[hosts.c.host], set_={"awaited_since": clock})


def awaited(session: Session) -> list[AwaitedHost]:
    """The hosts that are waited for, by name."""
    statement = sa.select(hosts).where(hosts.c.awaited_since.is_not(None)).order_by(hosts.c.host)
    return [AwaitedHost(row.host, loaded(row.awaited_since), loaded(row.seen_at)) for row in session.execute(statement)]


def go_on_without(session: Session, host: str) -> bool:
    """Whether that host was waited for; it is not any more, nor by hosts that come later, before it is back."""
    waited_for = sa.or_(hosts.c.awaited_since.is_not(None), hosts.c.unheard_since.is_not(None))
    nothing = {"awaited_since": None, "unheard_since": None, "unheard_until": None, "database": None}
    return session.execute(hosts.update().where(hosts.c.host == host, waited_for).values(nothing)).rowcount == 1
