"""Sums of readers who came and went, by week and chain: counts alone, which name nobody and are kept for good.

They are added up in memory and written by the last statement of the transaction that changed the readers.
"""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.growth import Change
from service.domain.weeks import Week
from service.store.database import Session
from service.store.engine_tables import growth

Sums = dict[Change, int]


def note(session: Session, week: Week, chain: str, change: Change, readers: int = 1) -> None:
    """Count readers of a chain with the transaction: both become durable, or neither."""
    if not session.growth:
        session.before_commit(lambda: _write(session))
    session.growth[str(week), chain, change.value] += readers


def since(session: Session, first: Week) -> dict[tuple[Week, str], Sums]:
    """The sums of each week from `first` on and each chain in which anybody came or went, the oldest week first."""
    statement = sa.select(growth).where(growth.c.week >= str(first)).order_by(growth.c.week, growth.c.chain)
    found: dict[tuple[Week, str], Sums] = {}
    for row in session.execute(statement):
        sums = found.setdefault((Week.parse(row.week), row.chain), dict.fromkeys(Change, 0))
        sums[Change(row.change)] = row.readers
    return found


def _write(session: Session) -> None:
    # In their order, and nothing is waited for afterwards: two transactions never wait for each other in a circle.
    rows = [
        {"week": week, "chain": chain, "change": change, "readers": readers}
        for (week, chain, change), readers in sorted(session.growth.items())
        if readers
    ]
    if rows:
        session.execute(_adding(on_postgresql=session.postgresql), rows)


@cache
def _adding(*, on_postgresql: bool) -> sa.Executable:
    insert = postgresql.insert if on_postgresql else sqlite.insert
    statement = insert(growth)
    return statement.on_conflict_do_update(
        index_elements=["week", "chain", "change"],
        set_={"readers": growth.c.readers + statement.excluded.readers},
    )
