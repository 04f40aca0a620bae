"""Confirmations that were mailed: what each one's link confirms, and how many an address never answered."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass, field
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.chains import Chain
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import CONFIRMATION_HOURS, hour_of
from service.domain.weeks import Week
from service.store.database import Session
from service.store.tables import confirmations, subscribers


class State(StrEnum):
    """Where a confirmation stands."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One mail's question: these languages, at this address."""

    id: bytes
    address_hash: bytes = field(repr=False)
    state: State
    chain: Chain
    text_version: int
    week: Week


def add(session: Session, address_hash: bytes, chain: Chain, *, text_version: int, now: dt.datetime) -> bytes | None:
    """The id of a new confirmation; None where the address had one on this day (UTC)."""
    row_id = os.urandom(16)
    insert = postgresql.insert if session.postgresql else sqlite.insert
    statement = insert(confirmations).values(
        id=row_id,
        address_hash=address_hash,
        state=State.OPEN.value,
        chain=str(chain),
        text_version=text_version,
        day=now.date().isoformat(),
        hour=hour_of(now),
    )
    made: bytes | None = session.scalar(statement.on_conflict_do_nothing().returning(confirmations.c.id))
    return made


def unanswered(session: Session, address_hash: bytes) -> int:
    """How many were mailed to that address since one was confirmed."""
    unconfirmed = sa.and_(confirmations.c.address_hash == address_hash, confirmations.c.state != State.CONFIRMED.value)
    return int(session.scalar(sa.select(sa.func.count()).select_from(confirmations).where(unconfirmed)))


def hold(session: Session, row_id: bytes) -> Confirmation | None:
    """The confirmation, held until the transaction ends: of two presses one comes first. None where it lapsed."""
    statement = sa.select(confirmations).where(confirmations.c.id == row_id, confirmations.c.day.is_not(None))
    row = session.execute(statement.with_for_update() if session.postgresql else statement).one_or_none()
    if row is None:
        return None
    week = Week.of(dt.date.fromisoformat(row.day))
    chain = Chain(tuple(row.chain.split(",")))
    return Confirmation(row.id, row.address_hash, State(row.state), chain, row.text_version, week)


def close(session: Session, address_hash: bytes) -> None:
    """Mark all of an address as confirmed: it counts anew, and no older link changes anything any more."""
    every = confirmations.c.address_hash == address_hash
    # Those that lapsed long ago have nothing left but their count.
    session.execute(confirmations.delete().where(every, confirmations.c.state == State.LAPSED.value))
    session.execute(confirmations.update().where(every).values(state=State.CONFIRMED.value))


def lapse(session: Session, now: dt.datetime, *, limit: int = 500) -> int:
    """Forget what was not confirmed within 72 hours: the pending reader, and of the confirmation all but its count.

    Returns how many lapsed; those that were confirmed go altogether.
    """
    ended = sa.select(confirmations.c.id, confirmations.c.address_hash, confirmations.c.state).where(
        confirmations.c.hour < hour_of(now) - CONFIRMATION_HOURS
    )
    rows = session.execute(ended.limit(limit)).all()
    unconfirmed = [row for row in rows if row.state == State.OPEN.value]
    done = [row.id for row in rows if row.state != State.OPEN.value]
    if done:
        session.execute(confirmations.delete().where(confirmations.c.id.in_(done)))
    if unconfirmed:
        ids = [row.id for row in unconfirmed]
        emptied = {"state": State.LAPSED.value, "chain": "", "day": None, "hour": None}
        session.execute(confirmations.update().where(confirmations.c.id.in_(ids)).values(emptied))
        _forget_pending(session, [row.address_hash for row in unconfirmed])
    return len(unconfirmed)


def _forget_pending(session: Session, hashes: list[bytes]) -> None:
    newer = sa.exists().where(
        confirmations.c.address_hash == subscribers.c.address_hash, confirmations.c.state == State.OPEN.value
    )
    gone = sa.and_(
        subscribers.c.address_hash.in_(hashes), subscribers.c.status == SubscriberStatus.PENDING.value, ~newer
    )
    session.execute(subscribers.delete().where(gone))
