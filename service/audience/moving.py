"""A reader's new address: it is asked first, and the old one is told when the mails go there."""

from __future__ import annotations

import datetime as dt

from service.audience.departures import Departures, note
from service.audience.reader_notices import tell
from service.domain.reader_notices import MOVE, MOVED
from service.domain.signup import MOST_CONFIRMATIONS, may_move_to, start_of_week
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.tokens import hour_of
from service.domain.weeks import Week
from service.queue import Bell
from service.store import Session, audit, confirmations, subscribers, suppressions
from service.store.confirmations import Confirmation
from service.store.departures import Step
from service.store.signups import SignUp
from service.store.subscribers import Subscriber


def ask_at(session: Session, bell: Bell, asked: SignUp, mover: tuple[bytes, int], *, now: dt.datetime) -> bool:
    """Mail a confirmation to the new address; whether one was mailed.

    Not to a reader's own address, nor where a sign-up would not be asked: the same limits count both.
    """
    address_hash = session.sealer.address_hash(asked.address)
    reader = _mover(session, mover)
    if reader is None or not _may_move_to(session, address_hash):
        return False
    if confirmations.unanswered(session, address_hash) >= MOST_CONFIRMATIONS:
        return False
    made = confirmations.add(
        session,
        address_hash,
        reader.chain,
        text_version=asked.text_version,
        now=now,
        mover=(*mover, asked.address),
    )
    if made is None:
        return False
    links = {"confirm": [made.hex(), hour_of(now)]}
    tell(
        session,
        bell,
        MOVE,
        about=made,
        address=asked.address,
        chain=reader.chain,
        reader=reader.id,
        links=links,
        now=now,
    )
    return True


def move(session: Session, bell: Bell, departures: Departures, asked: Confirmation, *, now: dt.datetime) -> bool:
    """Have the reader's mails go to the address whose open confirmation was pressed, at once; whether they do.

    What a relay still says of the old address counts for nothing then: the reader's epoch has changed. A row of the
    new address that is no active reader's goes, and what a confirmation lifts is lifted. Of the old address a keyed
    hash stays, as of one that was erased: no list and no restored backup brings mails back there, a sign-up does.
    """
    assert asked.mover is not None
    reader = _mover(session, asked.mover)
    if reader is None or not _may_move_to(session, asked.address_hash):
        return False
    week = Week.of(now.date())
    confirmations.close(session, asked.address_hash)
    suppressions.lift(session, asked.address_hash)
    other = subscribers.find_hash(session, asked.address_hash)
    if other is not None:
        subscribers.erase(session, other.id, week=week)
    old = subscribers.address(session, reader)
    subscribers.move(session, reader, asked.address)
    suppressions.add(session, reader.address_hash, SuppressionReason.ERASED, week)
    # The only deed of readers that is written down: its week tells a restored backup what came after (`departures`).
    # Its place between operators' lines tells more than the week, and the page on privacy says so.
    at = start_of_week(now)
    audit.append(session, at=at, actor="reader", action="subscriber.move", subject=reader.public_id)
    tell(session, bell, MOVED, about=asked.id, address=old, chain=reader.chain, reader=reader.id, links={}, now=now)
    # Older programs know this step, too: they read the log of the newer ones beside them.
    note(departures, [(reader.address_hash, Step.ERASED), (asked.address_hash, Step.CONFIRMED)], week)
    return True


def _mover(session: Session, mover: tuple[bytes, int]) -> Subscriber | None:
    """The active reader who moves, where the address has not changed since and may be mailed.

    Else a move would lift at the new address what somebody said of the old one.
    """
    row_id, epoch = mover
    reader = subscribers.get(session, row_id)
    if reader is None or reader.epoch != epoch or reader.status is not SubscriberStatus.ACTIVE:
        return None
    return None if suppressions.is_suppressed(session, reader.address_hash) else reader


def _may_move_to(session: Session, address_hash: bytes) -> bool:
    other = subscribers.find_hash(session, address_hash)
    suppression = suppressions.find(session, address_hash)
    return may_move_to(other.status if other else None, suppression.reason if suppression else None)
