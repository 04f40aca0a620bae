"""Reminding of a sign-up that was not confirmed: once, a day later, with the link of the first mail."""

from __future__ import annotations

import datetime as dt

from service.audience.reader_notices import tell
from service.domain.reader_notices import REMINDER
from service.domain.signup import may_confirm
from service.domain.subscriber import SubscriberStatus
from service.queue import Bell
from service.store import Session, confirmations, subscribers, suppressions


def remind(session: Session, bell: Bell, confirmation: bytes, *, now: dt.datetime) -> bool:
    """Whether a reminder was mailed: only while the reader is pending, and never a second one."""
    asked = confirmations.remind(session, confirmation, now)
    reader = None if asked is None else subscribers.find_hash(session, asked.address_hash)
    if asked is None or reader is None or reader.status is not SubscriberStatus.PENDING:
        return False
    suppression = suppressions.find(session, asked.address_hash)
    if not may_confirm(reader.status, suppression.reason if suppression else None):
        return False
    tell(
        session,
        bell,
        REMINDER,
        about=asked.id,
        address=subscribers.address(session, reader),
        chain=asked.chain,
        reader=reader.id,
        links={"confirm": [asked.id.hex(), confirmations.hour_signed(session, asked.id)]},
        now=now,
    )
    return True
