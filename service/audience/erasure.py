"""Erasing a reader: the row goes, a keyed hash stays, so that no import brings the address back."""

from __future__ import annotations

import datetime as dt

from service.audience.departures import Departures, note
from service.domain.subscriber import SuppressionReason
from service.domain.weeks import Week
from service.store import Session, audit, confirmations, notices, subscribers, suppressions
from service.store.departures import Step
from service.store.subscribers import Subscriber


def erase(session: Session, departures: Departures, reader: Subscriber, *, actor: str | None, now: dt.datetime) -> None:
    """Remove the reader. Deliveries stay in the accounts and name nobody; a complaint on record keeps its weight.

    What the address was asked before confirms no later sign-up. `actor` is the operator whom the audit log names; None
    for readers themselves, of whom it says nothing.
    """
    week = Week.of(now.date())
    confirmations.withdraw(session, [reader.address_hash], reader=reader.id)
    suppressions.add(session, reader.address_hash, SuppressionReason.ERASED, week)
    subscribers.erase(session, reader.id, week=week)
    notices.forget(session, reader.id)
    if actor is not None:
        audit.append(session, at=now, actor=actor, action="subscriber.erase", subject=reader.public_id)
    note(departures, [(reader.address_hash, Step.ERASED)], week)
