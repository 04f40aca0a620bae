"""Senders: one row per worker process, which ties what it gated to the journal that knows what became of it."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.domain.mailing import SETTLED
from service.store.database import Session
from service.store.instants import database_now, stored
from service.store.tables import batches, deliveries, mailings, notices, senders

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
    number = secrets.randbelow(_HIGHEST) + 1
    values = {"number": number, "on_host": host, "of_boot": boot, "to_relay": relay}
    session.execute(_registering(postgresql=session.postgresql), values)
    return number


@cache
def _registering(*, postgresql: bool) -> sa.Executable:
    clock = database_now(postgresql=postgresql)
    return senders.insert().values(
        id=sa.bindparam("number"),
        host=sa.bindparam("on_host"),
        boot=sa.bindparam("of_boot"),
        relay=sa.bindparam("to_relay"),
        started_at=clock,
        seen_at=clock,
    )


def unsettled(session: Session, host: str, *, older_than_seconds: float = 0) -> list[Sender]:
    """The senders of that host, begun so long ago, whose letters are not all accounted for yet."""
    values = {"on_host": host, "age": int(older_than_seconds * 1000)}
    return [_sender(row) for row in session.execute(_begun(postgresql=session.postgresql), values)]


@cache
def _begun(*, postgresql: bool) -> sa.Executable:
    begun = senders.c.started_at <= database_now(postgresql=postgresql) - _AGE
    return sa.select(senders).where(_ON_HOST, senders.c.settled_at.is_(None), begun).order_by(senders.c.id)


_ON_HOST = senders.c.host == sa.bindparam("on_host")
_AGE = sa.bindparam("age", type_=sa.BigInteger)  # milliseconds


def away(session: Session, seconds: float) -> list[Sender]:
    """Unsettled senders of hosts that have not been seen for so long, by the database's clock."""
    gone = _unseen(postgresql=session.postgresql)
    return [_sender(row) for row in session.execute(gone, {"age": int(seconds * 1000)})]


@cache
def _unseen(*, postgresql: bool) -> sa.Executable:
    unseen = senders.c.seen_at < database_now(postgresql=postgresql) - _AGE
    return sa.select(senders).where(senders.c.settled_at.is_(None), unseen).order_by(senders.c.id)


def seen(session: Session, host: str) -> None:
    """The host is there: its unsettled senders' letters are still decided by its journals."""
    session.execute(_seeing(postgresql=session.postgresql), {"on_host": host})


@cache
def _seeing(*, postgresql: bool) -> sa.Executable:
    clock = database_now(postgresql=postgresql)
    return senders.update().where(_ON_HOST, senders.c.settled_at.is_(None)).values(seen_at=clock)


def forget(session: Session, before: dt.datetime) -> int:
    """Forget the processes that ended, or were seen last, `before` and that nothing needs any more; how many.

    What needs them is a mailing that goes on, or ended later than that, an open attempt, and a notice. A delivery of an
    older mailing may name one that is gone.
    """
    return session.execute(senders.delete().where(*_needless(session, before))).rowcount


def forgettable(session: Session, before: dt.datetime) -> int:
    """How many `forget` would forget."""
    return int(session.scalar(sa.select(sa.func.count()).select_from(senders).where(*_needless(session, before))))


def _needless(session: Session, before: dt.datetime) -> list[sa.ColumnElement[bool]]:
    # No index leads from a sender to its deliveries. But whoever ended before a mailing was made has gated none of it.
    ended = sa.and_(mailings.c.state.in_([state.value for state in SETTLED]), mailings.c.finished_at < stored(before))
    oldest = session.scalar(sa.select(sa.func.min(mailings.c.created_at)).where(~ended))
    last = sa.func.coalesce(senders.c.settled_at, senders.c.seen_at)
    open_batches = sa.select(batches.c.id).where(batches.c.attempting > 0)
    attempting, uncertain = int(DeliveryState.ATTEMPTING), int(DeliveryState.UNCERTAIN)
    gated = sa.exists().where(
        deliveries.c.sender_id == senders.c.id,
        deliveries.c.state == attempting,
        deliveries.c.batch_id.in_(open_batches),
    )
    noticed = sa.exists().where(notices.c.sender_id == senders.c.id, notices.c.state.in_((attempting, uncertain)))
    return [last < min(stored(before), stored(before) if oldest is None else oldest), ~gated, ~noticed]


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
