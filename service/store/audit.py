"""The audit log: append-only and hash-chained, which operator did what to which id. No address ever.

What readers do themselves is not written here: an instant, and even the place between two others, would tell when they
were at the site. Only a move is, with its week; the lines around it may tell more, as the page on privacy says.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.store.database import Session
from service.store.instants import loaded, stored
from service.store.tables import audit


def append(
    session: Session,
    *,
    at: dt.datetime,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write one entry, chained to the one before it."""
    if session.postgresql:
        # One writer at a time: two entries must never name the same predecessor.
        session.execute(sa.text("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE"))
    previous = session.scalar(sa.select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)) or ""
    entry = {
        "at": stored(at),
        "actor": actor,
        "action": action,
        "subject": subject,
        "details": dict(details or {}),
        "previous": previous,
    }
    session.execute(audit.insert().values(**entry, hash=_hash(entry)))


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log."""

    id: int
    at: dt.datetime
    actor: str
    action: str
    subject: str
    details: Mapping[str, Any]


def newest(session: Session, count: int) -> list[Entry]:
    """The last `count` entries, in the order in which they were written."""
    rows = session.execute(sa.select(audit).order_by(audit.c.id.desc()).limit(count)).all()
    return [_entry(row) for row in reversed(rows)]


def about(session: Session, subject: str) -> list[Entry]:
    """Every entry about one subject, in the order in which they were written. There is no index: not for every page."""
    return [
        _entry(row) for row in session.execute(sa.select(audit).where(audit.c.subject == subject).order_by(audit.c.id))
    ]


def _entry(row: Any) -> Entry:
    return Entry(row.id, loaded(row.at), row.actor, row.action, row.subject, row.details)


def first_broken(session: Session) -> int | None:
    """The id of the first entry that was changed, removed or put in later; None where the chain holds."""
    previous = ""
    for row in session.stream(sa.select(audit).order_by(audit.c.id)):
        entry = {name: getattr(row, name) for name in ("at", "actor", "action", "subject", "details", "previous")}
        if row.previous != previous or _hash(entry) != row.hash:
            return int(row.id)
        previous = row.hash
    return None


def _hash(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
