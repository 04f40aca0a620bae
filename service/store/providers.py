"""The deliveries of a mailing by who keeps the mailboxes: known providers by name, all others as one."""

from __future__ import annotations

import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.domain.providers import KNOWN, OTHER
from service.store.database import Session
from service.store.tables import deliveries, subscribers


def known_provider(name: str) -> sa.ColumnElement[bool]:
    """Whether a subscriber's mailbox is kept by that known provider, or by none of them (`other`)."""
    if name == OTHER:
        return sa.or_(subscribers.c.provider.is_(None), subscribers.c.provider.not_in(sorted(KNOWN)))
    return subscribers.c.provider == name


def states(session: Session, mailing: int) -> dict[str, dict[DeliveryState, int]]:
    """How many deliveries of each state each provider has; erased readers count among the others."""
    named = sa.case((subscribers.c.provider.in_(sorted(KNOWN)), subscribers.c.provider), else_=OTHER)
    statement = (
        sa.select(named.label("name"), deliveries.c.state, sa.func.count().label("letters"))
        .outerjoin(subscribers, subscribers.c.id == deliveries.c.subscriber_id)
        .where(deliveries.c.mailing_id == mailing)
        .group_by("name", deliveries.c.state)
    )
    found: dict[str, dict[DeliveryState, int]] = {}
    for row in session.execute(statement):
        found.setdefault(row.name, {})[DeliveryState(row.state)] = row.letters
    return found
