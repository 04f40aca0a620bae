"""Which edition of a mailing each reader gets, and how many readers each chain has."""

from __future__ import annotations

import sqlalchemy as sa

from service.domain.chains import TEXT_ONLY, Chain
from service.domain.subscriber import SubscriberStatus
from service.store.database import Session
from service.store.instants import loaded
from service.store.tables import subscribers

# As `domain.chains.edition_key` writes it.
EDITION: sa.ColumnElement[str] = subscribers.c.chain + sa.case(
    (subscribers.c.text_only, sa.literal_column(f"'{TEXT_ONLY}'")), else_=sa.literal_column("''")
)


def day_of(now_ms: int) -> str:
    """The day (UTC) of an instant, as `paused_until` is written."""
    return loaded(now_ms).date().isoformat()


def paused(today: str) -> sa.ColumnElement[bool]:
    """Whether a reader gets nothing on that day."""
    return sa.func.coalesce(subscribers.c.paused_until, "") > today


def by_chain(session: Session) -> dict[Chain, int]:
    """The active subscribers by chain, the most read one first."""
    count = sa.func.count().label("readers")
    rows = session.execute(
        sa.select(subscribers.c.chain, count)
        .where(subscribers.c.status == SubscriberStatus.ACTIVE.value)
        .group_by(subscribers.c.chain)
        .order_by(count.desc(), subscribers.c.chain)
    )
    return {Chain(tuple(row.chain.split(","))): int(row.readers) for row in rows}
