"""A mailing in numbers: its row, and sums over its batches, asked for in one statement.

Whoever watches a mailing asks again and again while every core is busy, and then what an answer takes is the waiting
for a core: once for each round trip, hardly anything for the rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.domain.errors import NotFoundError
from service.store import mailings as rows
from service.store.database import Session
from service.store.instants import loaded, loaded_or_none, stored
from service.store.mailings import Counts, Mailing
from service.store.tables import COUNTED, batches, issues, mailings, renditions


@dataclass(frozen=True, slots=True)
class Waits:
    """What of a mailing's letters cannot be sent at once, as far as its batches tell.

    `held` letters wait until `held_until`; deferred ones are due from `due_at` on at the latest; when the `undated`
    ones are due is not known, because their batches have letters to send before.
    """

    held: int = 0
    held_until: dt.datetime | None = None
    due_at: dt.datetime | None = None
    undated: int = 0


@dataclass(frozen=True, slots=True)
class Numbers:
    """The mailing, its deliveries by chain and the revision of their rendition (0: none yet), and what waits at `now`,
    by the database's clock.
    """

    mailing: Mailing
    revisions: Mapping[str, Mapping[int, Counts]]
    now: dt.datetime
    waits: Waits


def of_mailing(session: Session, mailing: int) -> Numbers:
    """The numbers of this moment, whatever the size of the mailing; raises NotFoundError."""
    values = {"mailing": mailing}
    if session.postgresql:
        found = session.execute(_NUMBERS, values).all()
    else:
        found = session.execute(_NUMBERS_SQLITE, {**values, "now": stored(session.now())}).all()
    if not found:
        raise NotFoundError(f"there is no mailing {mailing}; see: tydzen mailing list")
    # A mailing without batches is one row that has no chain.
    parts = [row for row in found if row.chain is not None]
    revisions: dict[str, dict[int, Counts]] = {}
    for row in parts:
        counts = Counts(**{name: int(getattr(row, name)) for name in COUNTED})
        revisions.setdefault(row.chain, {})[row.revision] = counts
    return Numbers(rows.of_row(found[0]), revisions, loaded(found[0].now), _waits(parts))


def _waits(parts: list[Any]) -> Waits:
    return Waits(
        sum(int(row.held) for row in parts),
        loaded_or_none(max((row.held_until for row in parts if row.held_until is not None), default=None)),
        loaded_or_none(max((row.due_at for row in parts if row.due_at is not None), default=None)),
        sum(int(row.undated) for row in parts),
    )


def _numbers_at(now: sa.ColumnElement[int]) -> sa.Select[Any]:
    columns = batches.c
    held = sa.and_(columns.open, columns.not_before > now)
    letters = columns.pending + columns.attempting + columns.deferred
    undated = sa.and_(columns.open, columns.due_at == 0)
    sums = (
        sa.select(
            columns.chain,
            sa.func.coalesce(renditions.c.revision, 0).label("revision"),
            *(sa.func.sum(columns[name]).label(name) for name in COUNTED),
            sa.func.sum(sa.case((held, letters), else_=0)).label("held"),
            sa.func.max(sa.case((held, columns.not_before))).label("held_until"),
            sa.func.max(sa.case((sa.and_(columns.open, columns.due_at > 0), columns.due_at))).label("due_at"),
            sa.func.sum(sa.case((undated, columns.deferred), else_=0)).label("undated"),
        )
        .outerjoin(renditions, renditions.c.id == columns.rendition_id)
        .where(columns.mailing_id == sa.bindparam("mailing"))
        .group_by(columns.chain, renditions.c.revision)
        .subquery()
    )
    return (
        sa.select(mailings, issues.c.week, now.label("now"), sums)
        .join(issues, issues.c.id == mailings.c.issue_id)
        .outerjoin(sums, sa.true())
        .where(mailings.c.id == sa.bindparam("mailing"))
        .order_by(sums.c.chain, sums.c.revision)
    )


# The database's clock is asked in the same statement.
_NUMBERS = _numbers_at(sa.cast(sa.extract("epoch", sa.func.statement_timestamp()) * 1000, sa.BigInteger))
_NUMBERS_SQLITE = _numbers_at(sa.bindparam("now", type_=sa.BigInteger))
