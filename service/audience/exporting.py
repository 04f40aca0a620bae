"""Addresses going out: all of them to an operator who asks for a file, or one behind an id. Each is audited first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from service.audience.subscriber_file import GUARDED
from service.domain.subscriber import SubscriberStatus
from service.store import Session, audit, subscribers
from service.store.subscribers import Subscriber

COLUMNS = ("id", "email", "languages", "status", "joined_week", "consent")


def announce(session: Session, *, status: SubscriberStatus | None, actor: str, now: dt.datetime) -> None:
    """Write into the audit log who takes the addresses; to be committed before the first one leaves."""
    details = {"status": status.value if status else "all"}
    audit.append(session, at=now, actor=actor, action="subscriber.export", subject="all", details=details)


def exported(session: Session, status: SubscriberStatus | None = None) -> Iterator[Mapping[str, Any]]:
    """Every reader (of one status) as a row of COLUMNS, streamed in an order that tells nothing."""
    for reader, address in subscribers.every_address(session, status):
        yield {
            "id": reader.public_id,
            "email": address,
            "languages": str(reader.chain),
            "status": reader.status.value,
            "joined_week": str(reader.joined_week),
            "consent": reader.consent,
        }


def guarded(row: Mapping[str, Any]) -> list[str]:
    """The row as cells that no spreadsheet takes for a formula; an import takes the apostrophe away again."""
    cells = ["" if row[name] is None else str(row[name]) for name in COLUMNS]
    return ["'" + cell if cell.startswith(GUARDED) else cell for cell in cells]


def reveal(session: Session, reader: Subscriber, *, actor: str, now: dt.datetime) -> str:
    """The address of one reader, for an operator who must write to them by hand."""
    audit.append(session, at=now, actor=actor, action="subscriber.reveal", subject=reader.public_id)
    return subscribers.address(session, reader)
