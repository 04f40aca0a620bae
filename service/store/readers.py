"""How many readers each chain has: which editions a mailing would need."""

from __future__ import annotations

import sqlalchemy as sa

from service.domain.chains import Chain
from service.domain.subscriber import SubscriberStatus
from service.store.database import Session
from service.store.tables import subscribers


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
