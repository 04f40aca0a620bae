"""The sums of who came and who left, held against the readers who are there."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa

from service.domain.weeks import Week
from service.store import growth, subscribers
from service.store.engine_tables import growth as table

FIRST = Week(1970, 1)


def sums(database):
    """The sums of all weeks and chains that are not 0: {("2019-W23", "be"): {"confirmed": 1}}."""
    with database.read() as session:
        found = growth.since(session, FIRST)
    return {
        (str(week), chain): {change.value: readers for change, readers in one.items() if readers}
        for (week, chain), one in found.items()
    }


def astray(session):
    """The chains whose sums are not the number of their active readers, with both numbers."""
    summed = Counter()
    for (_, chain), one in growth.since(session, FIRST).items():
        summed[chain] += sum(change.sign * readers for change, readers in one.items())
    active = subscribers.active(session)
    return {
        chain: (summed[chain], active.get(chain, 0))
        for chain in sorted({*summed, *active})
        if summed[chain] != active.get(chain, 0)
    }


def rows(database):
    """How many sums are kept."""
    with database.read() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table))
