"""Addresses an operator forbids or allows again."""

from __future__ import annotations

import datetime as dt

from service.audience.addresses import checked
from service.audience.departures import Departures, note
from service.domain.errors import NotFoundError
from service.domain.subscriber import LIFTED_BY_CONFIRMATION, SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.store import Session, audit, confirmations, subscribers, suppressions
from service.store.departures import Step


def suppress(
    session: Session,
    departures: Departures,
    address: str,
    reason: SuppressionReason,
    *,
    actor: str,
    now: dt.datetime,
) -> bool:
    """Have an address, known or not, never mailed; False where it was suppressed already for as strong a reason.

    A reader of that address keeps status and chain, so that lifting it brings back what was; but a question that was
    not answered yet is closed, and who was only asked is forgotten.
    """
    address_hash = session.sealer.address_hash(checked(address))
    week = Week.of(now.date())
    confirmations.withdraw(session, [address_hash])
    confirmations.forget_pending(session, [address_hash])
    if not suppressions.add(session, address_hash, reason, week):
        return False
    audit.append(
        session,
        at=now,
        actor=actor,
        action="subscriber.suppress",
        subject=_subject(session, address_hash),
        details={"reason": reason.value},
    )
    note(departures, [(address_hash, Step(reason.value))], week)
    return True


def unsuppress(
    session: Session, departures: Departures, address: str, *, actor: str, now: dt.datetime
) -> SuppressionReason:
    """Lift the suppression of an address, whatever it was; raises NotFoundError where there is none.

    A reader whose mailbox had bounced is mailed again; who had complained or left is not: that takes a new sign-up. So
    who had complained counts as one who left from then on, also where nothing but the status is left of the complaint;
    what a sign-up would have lifted anyway lifts no complaint.
    """
    address_hash = session.sealer.address_hash(checked(address))
    week = Week.of(now.date())
    lifted = suppressions.lift(session, address_hash)
    reader = subscribers.find_hash(session, address_hash)
    complained = reader is not None and reader.status is SubscriberStatus.COMPLAINED
    if lifted is None and not complained:
        raise NotFoundError("this address is not suppressed")
    lifted = lifted or SuppressionReason.COMPLAINED
    if reader is not None and reader.status is SubscriberStatus.BOUNCED:
        subscribers.set_status(session, reader.id, SubscriberStatus.ACTIVE, week=week)
    elif reader is not None and complained and lifted not in LIFTED_BY_CONFIRMATION:
        subscribers.set_status(session, reader.id, SubscriberStatus.UNSUBSCRIBED, week=week)
    audit.append(
        session,
        at=now,
        actor=actor,
        action="subscriber.unsuppress",
        subject=_subject(session, address_hash),
        details={"reason": lifted.value},
    )
    note(departures, [(address_hash, Step.LIFTED)], week)
    return lifted


def _subject(session: Session, address_hash: bytes) -> str:
    reader = subscribers.find_hash(session, address_hash)
    return "address" if reader is None else reader.public_id
