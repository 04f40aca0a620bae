"""Measures: sums over the life of the installation, added to by every worker and read by whoever watches it."""

from __future__ import annotations

import datetime as dt
from functools import cache

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.tally import Sums
from service.store.database import Session
from service.store.engine_tables import measures
from service.store.instants import loaded, stored

_PROGRESS = "progress"


def add(session: Session, sums: Sums) -> None:
    """Add to the stored sums."""
    # In one order, as every transaction that changes several rows does: no deadlock.
    rows = [{"name": name, "labels": labels, "value": value} for (name, labels), value in sorted(sums.items())]
    if not rows:
        return
    session.execute(_adding(on_postgresql=session.postgresql), rows)


@cache
def _adding(*, on_postgresql: bool) -> sa.Executable:
    insert = (postgresql.insert if on_postgresql else sqlite.insert)(measures)
    added = {"value": measures.c.value + insert.excluded.value}
    return insert.on_conflict_do_update(index_elements=["name", "labels"], set_=added)


def everything(session: Session) -> dict[tuple[str, str], float]:
    """All stored sums, by name and labels."""
    statement = sa.select(measures).where(measures.c.name != _PROGRESS).order_by(measures.c.name, measures.c.labels)
    return {(row.name, row.labels): row.value for row in session.execute(statement)}


def note_progress(session: Session, mailing: int, now: dt.datetime) -> None:
    """Remember that the relay said something about a letter of the mailing, or that it was set going, just now."""
    values = {"name": _PROGRESS, "labels": str(mailing), "value": stored(now)}
    session.execute(_setting(on_postgresql=session.postgresql), values)


@cache
def _setting(*, on_postgresql: bool) -> sa.Executable:
    insert = (postgresql.insert if on_postgresql else sqlite.insert)(measures)
    return insert.on_conflict_do_update(index_elements=["name", "labels"], set_={"value": insert.excluded.value})


def progress(session: Session, mailing: int) -> dt.datetime | None:
    """When that last was, to within some seconds."""
    found = session.scalar(
        sa.select(measures.c.value).where(measures.c.name == _PROGRESS, measures.c.labels == str(mailing))
    )
    return None if found is None else loaded(int(found))
