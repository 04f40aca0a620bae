"""What was rung for lately, when hints are known to be lost: the next sweep rings again, and waits for nothing."""

from __future__ import annotations

import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.store.database import Session
from service.store.instants import database_now
from service.store.notices import RING_QUIET_SECONDS
from service.store.tables import batches, notices, signups


def doubt(session: Session, *, older_than_seconds: int = 0) -> None:
    """Let all that nobody has taken up since it was rung, so long ago, be rung again at once.

    A broker that lost one hint may have lost whatever it held. A hint that was not lost after all does nothing when it
    is heard twice. Rows that others hold are in hand, and left alone.
    """
    clock = database_now(postgresql=session.postgresql)
    age = older_than_seconds * 1000
    rung = sa.and_(batches.c.rung_at > 0, batches.c.rung_at <= clock - age)
    _update(session, batches, sa.and_(batches.c.open, rung, batches.c.lease_until <= clock), rung_at=0)
    rung = sa.and_(notices.c.rung_at > 0, notices.c.rung_at <= clock - age)
    pending = notices.c.state == int(DeliveryState.PENDING)
    _update(session, notices, sa.and_(pending, rung, notices.c.lease_until <= clock), rung_at=0)
    due_at = signups.c.due_at
    quiet = sa.and_(due_at > clock, due_at <= clock + RING_QUIET_SECONDS * 1000 - age)
    _update(session, signups, quiet, due_at=clock)


def _update(session: Session, table: sa.Table, chosen: sa.ColumnElement[bool], **values: object) -> None:
    found = sa.select(table.c.id).where(chosen)
    if session.postgresql:
        found = found.with_for_update(skip_locked=True)
    session.execute(table.update().where(table.c.id.in_(found)).values(**values))
