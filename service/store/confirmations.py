"""Confirmations that were mailed: what each one's link confirms, and how many an address never answered."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.chains import Chain
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import CONFIRMATION_HOURS, hour_of
from service.domain.weeks import Week
from service.store.database import Session
from service.store.tables import confirmations, subscribers

# A reminder comes when a day has passed, and not when a day is left or less.
REMINDED_AFTER_HOURS, REMINDED_BEFORE_HOURS = 24, 48


class State(StrEnum):
    """Where a confirmation stands."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    LAPSED = "lapsed"


_EMPTIED: dict[str, Any] = {
    "state": State.LAPSED.value,
    "chain": "",
    "day": None,
    "hour": None,
    "reader_id": None,
    "epoch": None,
    "sealed": None,
    # Of a reminder nothing is left but that there was one.
    "reminded_day": sa.case((confirmations.c.reminded_day.is_not(None), "")),
}


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One mail's question: these languages, at this address; with a `mover` that reader's mails, at this `address`."""

    id: bytes
    address_hash: bytes = field(repr=False)
    state: State
    chain: Chain
    text_version: int
    week: Week
    newest: bool = False
    mover: tuple[bytes, int] | None = None
    address: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a confirmation, for its reader; of a lapsed one it is little more than that there was one."""

    state: State
    languages: tuple[str, ...]
    day: str | None
    reminded: str | None
    newest: bool
    moves: bool
    address: str | None = field(repr=False)


def add(
    session: Session,
    address_hash: bytes,
    chain: Chain,
    *,
    text_version: int,
    now: dt.datetime,
    newest: bool = False,
    mover: tuple[bytes, int, str] | None = None,
) -> bytes | None:
    """The id of a new confirmation; None where the address had one, or a reminder, on this day (UTC).

    A `mover` is a reader's id and epoch, and the address in question.
    """
    row_id = os.urandom(16)
    today = now.date().isoformat()
    reminded = sa.and_(confirmations.c.address_hash == address_hash, confirmations.c.reminded_day == today)
    if session.execute(sa.select(confirmations.c.id).where(reminded).limit(1)).first():
        return None
    insert = postgresql.insert if session.postgresql else sqlite.insert
    statement = insert(confirmations).values(
        id=row_id,
        address_hash=address_hash,
        state=State.OPEN.value,
        chain=str(chain),
        text_version=text_version,
        day=today,
        hour=hour_of(now),
        newest=newest,
        reader_id=mover[0] if mover else None,
        epoch=mover[1] if mover else None,
        sealed=session.sealer.seal(row_id, mover[2]) if mover else None,
    )
    made: bytes | None = session.scalar(statement.on_conflict_do_nothing().returning(confirmations.c.id))
    return made


def unanswered(session: Session, address_hash: bytes) -> int:
    """How many mails that address got since one was confirmed, reminders among them."""
    unconfirmed = sa.and_(confirmations.c.address_hash == address_hash, confirmations.c.state != State.CONFIRMED.value)
    mails = sa.func.count() + sa.func.count(confirmations.c.reminded_day)
    return int(session.scalar(sa.select(mails).select_from(confirmations).where(unconfirmed)))


def hold(session: Session, row_id: bytes) -> Confirmation | None:
    """The confirmation, held until the transaction ends: of two presses one comes first. None where it lapsed.

    With it, and in one order, whatever else its address was asked: `close` changes them all.
    """
    asked = confirmations.alias()
    address_hash = sa.select(asked.c.address_hash).where(asked.c.id == row_id).scalar_subquery()
    statement = sa.select(confirmations).where(confirmations.c.address_hash == address_hash)
    statement = statement.order_by(confirmations.c.id)
    rows = session.execute(statement.with_for_update() if session.postgresql else statement)
    return next((_confirmation(session, row) for row in rows if row.id == row_id and row.day is not None), None)


def unused(session: Session, row_id: bytes) -> Confirmation | None:
    """The confirmation to look at, where it is open: neither used nor withdrawn nor lapsed. Nothing is held."""
    return _in_state(session, row_id, State.OPEN)


def used(session: Session, row_id: bytes) -> Confirmation | None:
    """The confirmation to look at, where one of its address was used; None for any other. Nothing is held."""
    return _in_state(session, row_id, State.CONFIRMED)


def _in_state(session: Session, row_id: bytes, state: State) -> Confirmation | None:
    found = sa.and_(confirmations.c.id == row_id, confirmations.c.state == state.value)
    row = session.execute(sa.select(confirmations).where(found)).one_or_none()
    return None if row is None else _confirmation(session, row)


def _confirmation(session: Session, row: Any) -> Confirmation:
    return Confirmation(
        row.id,
        row.address_hash,
        State(row.state),
        Chain(tuple(row.chain.split(","))),
        row.text_version,
        Week.of(dt.date.fromisoformat(row.day)),
        row.newest,
        None if row.reader_id is None else (row.reader_id, row.epoch),
        session.sealer.open(row.id, row.sealed) if row.sealed else "",
    )


def moves(session: Session, row_id: bytes) -> bool:
    """Whether that confirmation is about a reader's new address."""
    statement = sa.select(confirmations.c.id).where(
        confirmations.c.id == row_id, confirmations.c.reader_id.is_not(None)
    )
    return session.execute(statement).first() is not None


def kept(session: Session, address_hash: bytes, reader: bytes) -> list[Kept]:
    """All that an address was asked, and a reader's wishes to move, as they are kept."""
    mine = sa.or_(confirmations.c.address_hash == address_hash, confirmations.c.reader_id == reader)
    rows = session.execute(sa.select(confirmations).where(mine).order_by(confirmations.c.day, confirmations.c.id))
    return [
        Kept(
            State(row.state),
            tuple(filter(None, row.chain.split(","))),
            row.day,
            row.reminded_day,
            row.newest,
            row.reader_id is not None,
            session.sealer.open(row.id, row.sealed) if row.sealed else None,
        )
        for row in rows
    ]


def forgotten(session: Session, now: dt.datetime, *, limit: int = 50) -> list[bytes]:
    """The ids of sign-ups of which a reminder is due: a day old, the only one of its address, not reminded of yet."""
    other = confirmations.alias()
    again = sa.exists().where(other.c.address_hash == confirmations.c.address_hash, other.c.id != confirmations.c.id)
    pending = sa.exists().where(
        subscribers.c.address_hash == confirmations.c.address_hash,
        subscribers.c.status == SubscriberStatus.PENDING.value,
    )
    hour = hour_of(now)
    statement = sa.select(confirmations.c.id).where(
        confirmations.c.hour.between(hour - REMINDED_BEFORE_HOURS, hour - REMINDED_AFTER_HOURS),
        confirmations.c.state == State.OPEN.value,
        confirmations.c.reminded_day.is_(None),
        confirmations.c.reader_id.is_(None),
        confirmations.c.day < now.date().isoformat(),
        pending,
        ~again,
    )
    return list(session.execute(statement.limit(limit)).scalars())


def remind(session: Session, row_id: bytes, now: dt.datetime) -> Confirmation | None:
    """The confirmation, which counts as reminded of from now on; None where it was, or is not open any more."""
    row = session.execute(
        confirmations.update()
        .where(
            confirmations.c.id == row_id,
            confirmations.c.state == State.OPEN.value,
            confirmations.c.reminded_day.is_(None),
        )
        .values(reminded_day=now.date().isoformat())
        .returning(confirmations)
    ).one_or_none()
    return None if row is None else _confirmation(session, row)


def hour_signed(session: Session, row_id: bytes) -> int:
    """The hour that the link of an open confirmation is signed with."""
    return int(session.scalar(sa.select(confirmations.c.hour).where(confirmations.c.id == row_id)))


def close(session: Session, address_hash: bytes) -> None:
    """Mark all of an address as confirmed: it counts anew, and no older link changes anything any more."""
    every = confirmations.c.address_hash == address_hash
    # Those that lapsed long ago have nothing left but their count.
    session.execute(confirmations.delete().where(every, confirmations.c.state == State.LAPSED.value))
    session.execute(confirmations.update().where(every).values(state=State.CONFIRMED.value, sealed=None))


def withdraw(session: Session, hashes: Collection[bytes], *, reader: bytes | None = None) -> None:
    """Close what addresses were asked and have not answered, and where a `reader` wanted to move: nothing confirms it.

    They stay counted among the unanswered, and another may be asked on the same day. To be called before a row of the
    reader is held: whoever confirms holds the confirmation first.
    """
    if not hashes:
        return
    known = sa.bindparam("known", type_=confirmations.c.address_hash.type)
    mine: sa.ColumnElement[bool] = confirmations.c.address_hash == known
    if reader is not None:
        # By the hour, because there is no index over the reader; what lapsed has none.
        moves = sa.and_(confirmations.c.hour > 0, confirmations.c.reader_id == reader)
        mine = sa.or_(mine, moves)
    statement = confirmations.update().where(confirmations.c.state == State.OPEN.value, mine).values(_EMPTIED)
    session.execute(statement, [{"known": address_hash} for address_hash in hashes])


def lapse(session: Session, now: dt.datetime, *, limit: int = 500) -> int:
    """Forget what was not confirmed within 72 hours: the pending reader, and of the confirmation all but its count.

    Returns how many had their time, at most `limit`; those that were confirmed go altogether.
    """
    over = sa.select(confirmations.c.id, confirmations.c.address_hash, confirmations.c.state).where(_ended(now))
    rows = session.execute(over.limit(limit)).all()
    unconfirmed = [row for row in rows if row.state == State.OPEN.value]
    done = [row.id for row in rows if row.state != State.OPEN.value]
    if done:
        session.execute(confirmations.delete().where(confirmations.c.id.in_(done)))
    if unconfirmed:
        ids = [row.id for row in unconfirmed]
        session.execute(confirmations.update().where(confirmations.c.id.in_(ids)).values(_EMPTIED))
        forget_pending(session, [row.address_hash for row in unconfirmed])
    return len(rows)


def ended(session: Session, now: dt.datetime) -> int:
    """How many `lapse` would forget, however often it takes."""
    return int(session.scalar(sa.select(sa.func.count()).select_from(confirmations).where(_ended(now))))


def _ended(now: dt.datetime) -> sa.ColumnElement[bool]:
    return confirmations.c.hour < hour_of(now) - CONFIRMATION_HOURS


def forget_pending(session: Session, hashes: Collection[bytes]) -> None:
    """Forget the pending readers of addresses of whom nothing is asked any more."""
    newer = sa.exists().where(
        confirmations.c.address_hash == subscribers.c.address_hash, confirmations.c.state == State.OPEN.value
    )
    gone = sa.and_(
        subscribers.c.address_hash.in_(hashes), subscribers.c.status == SubscriberStatus.PENDING.value, ~newer
    )
    session.execute(subscribers.delete().where(gone))
