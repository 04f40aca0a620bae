"""What readers asked for that takes a fresh link to the present address: kept for a day, and used once."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.subscriber import RequestPurpose
from service.domain.tokens import REQUEST_HOURS, hour_of
from service.store.database import Session
from service.store.instants import loaded
from service.store.tables import requests

# A link that is lost may be asked for anew, but nobody's mailbox is to be filled by whoever got a mail forwarded.
MOST_A_DAY = 3
_HOUR_MS = 3600 * 1000


@dataclass(frozen=True, slots=True)
class Request:
    """One wish of a reader, at an epoch: a link that was mailed to an older address is worth nothing."""

    id: bytes
    subscriber: bytes
    epoch: int
    purpose: RequestPurpose


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a request, for its reader: the hour is told to the day."""

    purpose: RequestPurpose
    day: dt.date
    used: bool


def add(session: Session, subscriber: bytes, epoch: int, purpose: RequestPurpose, *, now: dt.datetime) -> bytes | None:
    """The id of a new request; None where one of that purpose was made this hour, or three within a day."""
    prune(session, now)
    row_id = os.urandom(16)
    same = sa.and_(requests.c.subscriber_id == subscriber, requests.c.purpose == purpose.value)
    if session.scalar(sa.select(sa.func.count()).select_from(requests).where(same)) >= MOST_A_DAY:
        return None
    insert = postgresql.insert if session.postgresql else sqlite.insert
    values = {"id": row_id, "subscriber_id": subscriber, "epoch": epoch, "purpose": purpose.value, "hour": hour_of(now)}
    statement = insert(requests).values(values).on_conflict_do_nothing()
    made: bytes | None = session.scalar(statement.returning(requests.c.id))
    return made


def find(session: Session, row_id: bytes) -> Request | None:
    """The request, where it was not used yet."""
    row = session.execute(sa.select(requests).where(requests.c.id == row_id, ~requests.c.used)).one_or_none()
    return None if row is None else Request(row.id, row.subscriber_id, row.epoch, RequestPurpose(row.purpose))


def of_reader(session: Session, subscriber: bytes) -> list[Kept]:
    """All that are kept of a reader, the oldest first."""
    mine = sa.select(requests).where(requests.c.subscriber_id == subscriber)
    rows = session.execute(mine.order_by(requests.c.hour, requests.c.purpose))
    return [Kept(RequestPurpose(row.purpose), loaded(row.hour * _HOUR_MS).date(), row.used) for row in rows]


def use(session: Session, row_id: bytes) -> bool:
    """Whether the request was unused until now: of two presses one comes first."""
    statement = requests.update().where(requests.c.id == row_id, ~requests.c.used)
    return session.execute(statement.values(used=True)).rowcount == 1


def prune(session: Session, now: dt.datetime) -> int:
    """Forget those whose links hold no more; how many."""
    return session.execute(requests.delete().where(_old(now))).rowcount


def old(session: Session, now: dt.datetime) -> int:
    """How many `prune` would forget."""
    return int(session.scalar(sa.select(sa.func.count()).select_from(requests).where(_old(now))))


def _old(now: dt.datetime) -> sa.ColumnElement[bool]:
    return requests.c.hour < hour_of(now) - REQUEST_HOURS
