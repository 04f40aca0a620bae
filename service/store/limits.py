"""Limits by scope as an operator set them, and how many letters each scope has let out on a day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.limits import Limit
from service.store.database import Session
from service.store.engine_tables import limits, sent_days

_EVERY = sa.select(limits)
_COUNTED = sa.select(sent_days.c.scope, sent_days.c.letters).where(sent_days.c.day == sa.bindparam("day"))


def every(session: Session) -> dict[str, Limit]:
    """What is set, by scope."""
    return {
        row.scope: Limit(
            row.rate,
            row.connections,
            row.per_day,
            row.weight,
            None if row.warm_up_from is None else dt.date.fromisoformat(row.warm_up_from),
        )
        for row in session.execute(_EVERY)
    }


def save(session: Session, scope: str, limit: Limit, *, now_ms: int) -> None:
    """Set all of a scope's limits."""
    values = {
        "rate": limit.rate,
        "connections": limit.connections,
        "per_day": limit.per_day,
        "weight": limit.weight,
        "warm_up_from": None if limit.warm_up_from is None else limit.warm_up_from.isoformat(),
        "changed_at": now_ms,
    }
    insert = postgresql.insert if session.postgresql else sqlite.insert
    statement = insert(limits).values(scope=scope, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["scope"], set_=values))


def remove(session: Session, scope: str) -> None:
    """Forget what is set for a scope."""
    session.execute(limits.delete().where(limits.c.scope == scope))


def counted(session: Session, day: dt.date) -> dict[str, int]:
    """How many letters were let out on that day, by scope; only scopes that had a cap then."""
    return {row.scope: row.letters for row in session.execute(_COUNTED, {"day": day.isoformat()})}


def left(session: Session, caps: Mapping[str, int], day: dt.date) -> dict[str, int]:
    """How many letters each of these scopes may still let out on that day.

    Nobody else counts them until this transaction ends. Call it before anything else is locked: who counts and who
    gives back must not wait for each other.
    """
    insert = postgresql.insert if session.postgresql else sqlite.insert
    # In the order of their names, so that two that count several scopes do not wait for each other.
    scopes = sorted(caps)
    rows = [{"scope": scope, "day": day.isoformat(), "letters": 0} for scope in scopes]
    session.execute(insert(sent_days).values(rows).on_conflict_do_nothing())
    statement = (
        sa.select(sent_days.c.scope, sent_days.c.letters)
        .where(sent_days.c.scope.in_(scopes), sent_days.c.day == day.isoformat())
        .order_by(sent_days.c.scope)
    )
    if session.postgresql:
        statement = statement.with_for_update()
    return {row.scope: max(0, caps[row.scope] - row.letters) for row in session.execute(statement)}


def count(session: Session, scopes: Iterable[str], day: dt.date, letters: int) -> None:
    """Count letters that are let out of these scopes; a negative number gives unsent ones back."""
    for scope in sorted(scopes):
        row = sa.and_(sent_days.c.scope == scope, sent_days.c.day == day.isoformat())
        session.execute(sent_days.update().where(row).values(letters=sent_days.c.letters + letters))
