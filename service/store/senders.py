"""Senders: one row per worker process, which ties what it gated to the journal that knows what became of it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from service.store.database import Session
from service.store.instants import database_now
from service.store.tables import batches, senders

_HIGHEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Sender:
    """One worker process that sends, or sent."""

    id: int
    host: str
    boot: str
    relay: str


def register(session: Session, *, host: str, boot: str, relay: str) -> int:
    """The id of a new sender.

    By chance, not in turn: a database that was set back must not give the id of a journal that is there to another.
    """
    clock = database_now(postgresql=session.postgresql)
    number = secrets.randbelow(_HIGHEST) + 1
    statement = senders.insert().values(id=number, host=host, boot=boot, relay=relay, started_at=clock, seen_at=clock)
    session.execute(statement)
    return number


def unsettled(session: Session, host: str, *, older_than_seconds: float = 0) -> list[Sender]:
    """The senders of that host, begun so long ago, whose letters are not all accounted for yet."""
    clock = database_now(postgresql=session.postgresql)
    begun = senders.c.started_at <= clock - int(older_than_seconds * 1000)
    statement = sa.select(senders).where(senders.c.host == host, senders.c.settled_at.is_(None), begun)
    return [_sender(row) for row in session.execute(statement.order_by(senders.c.id))]


def away(session: Session, seconds: float) -> list[Sender]:
    """Unsettled senders of hosts that have not been seen for so long, by the database's clock."""
    clock = database_now(postgresql=session.postgresql)
    statement = sa.select(senders).where(
        senders.c.settled_at.is_(None), senders.c.seen_at < clock - int(seconds * 1000)
    )
    return [_sender(row) for row in session.execute(statement.order_by(senders.c.id))]


def seen(session: Session, host: str) -> None:
    """The host is there: its unsettled senders' letters are still decided by its journals."""
    clock = database_now(postgresql=session.postgresql)
    statement = senders.update().where(senders.c.host == host, senders.c.settled_at.is_(None))
    session.execute(statement.values(seen_at=clock))


def settle(session: Session, sender: int) -> None:
    """All letters of that sender are accounted for; the batches it held are free at once."""
    clock = database_now(postgresql=session.postgresql)
    session.execute(senders.update().where(senders.c.id == sender).values(settled_at=clock))
    free_batches(session, [sender])


def free_batches(session: Session, dead: Sequence[int]) -> None:
    """End the leases of senders that are known to be dead: the fence moves on when the batches are claimed again."""
    statement = batches.update().where(batches.c.sender_id.in_(dead), batches.c.lease_until > 0)
    session.execute(statement.values(lease_until=0, rung_at=0, fence=batches.c.fence + 1))


def _sender(row: sa.Row[tuple[object, ...]]) -> Sender:
    return Sender(row.id, row.host, row.boot, row.relay)
