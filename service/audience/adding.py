"""Readers that an operator vouches for, one at a time."""

from __future__ import annotations

import datetime as dt

from service.audience.addresses import checked
from service.audience.consent import evidence
from service.domain.chains import Chain
from service.domain.errors import ConflictError
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.store import Session, audit, subscribers, suppressions
from service.store.subscribers import Subscriber


def add(
    session: Session, address: str, chain: Chain, *, consent: str | None, actor: str, now: dt.datetime
) -> tuple[Subscriber, bool]:
    """The active reader of `address`, and whether this call added it; asking again with the same chain adds nothing.

    Raises InvalidInputError for what is no address, and ConflictError for one that is suppressed, has left, or has
    another chain: nobody is brought back, and no reader's own choice is overwritten, by the way.
    """
    address = checked(address)
    address_hash = session.sealer.address_hash(address)
    suppression = suppressions.find(session, address_hash)
    if suppression is not None:
        raise ConflictError(
            f"this address is suppressed since {suppression.since_week} ({suppression.reason}); "
            "to mail it again: tydzen subscriber unsuppress ADDRESS"
        )
    known = subscribers.find_hash(session, address_hash)
    if known is not None:
        _require_the_same(known, chain)
        return known, False
    week = Week.of(now.date())
    words = evidence(consent) if consent else f"vouched for by {actor}"
    made = subscribers.add(session, address, chain, status=SubscriberStatus.ACTIVE, consent=words, week=week)
    audit.append(
        session,
        at=now,
        actor=actor,
        action="subscriber.add",
        subject=made.public_id,
        details={"languages": str(chain), "consent": "given" if consent else "actor"},
    )
    return made, True


def _require_the_same(known: Subscriber, chain: Chain) -> None:
    if known.status is not SubscriberStatus.ACTIVE:
        raise ConflictError(f"{known.public_id} is {known.status}; only a newly confirmed sign-up brings a reader back")
    if known.chain != chain:
        raise ConflictError(
            f"{known.public_id} is a reader already, of {known.chain}; to change that: tydzen subscriber set ADDRESS"
        )
