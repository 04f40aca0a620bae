"""Leaving by the link of a mail: one POST, no login, the same answer whoever asks."""

from __future__ import annotations

import datetime as dt
import os
from enum import StrEnum

from service.audience.departures import Departures, leave, note
from service.audience.reader_notices import tell
from service.domain.reader_notices import GOODBYE
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import LinkSigner
from service.domain.weeks import Week
from service.queue import Bell
from service.store import Session, subscribers, suppressions
from service.store.departures import Step
from service.store.subscribers import Subscriber


class Outcome(StrEnum):
    """What a page may say. Whether a reader was there, had left before or is erased is no business of the page."""

    DONE = "done"
    NOT_A_LINK = "not-a-link"


def unsubscribe(
    session: Session, bell: Bell, links: LinkSigner, departures: Departures, token: str, *, now: dt.datetime
) -> Outcome:
    """Have the reader of a link leave, with a mail that says so. Repeating it changes nothing.

    Links of older epochs work for ever.
    """
    claim = links.read(token)
    if claim is None:
        return Outcome.NOT_A_LINK
    reader = subscribers.get(session, claim.subscriber)
    week = Week.of(now.date())
    if reader is not None and leave(session, reader, week):
        note(departures, [(reader.address_hash, Step.UNSUBSCRIBED)], week)
        if reader.status is SubscriberStatus.ACTIVE and not suppressions.is_suppressed(session, reader.address_hash):
            _say_goodbye(session, bell, reader, now)
    return Outcome.DONE


def _say_goodbye(session: Session, bell: Bell, reader: Subscriber, now: dt.datetime) -> None:
    tell(
        session,
        bell,
        GOODBYE,
        # Who comes back and leaves again hears of it again.
        about=os.urandom(16),
        address=subscribers.address(session, reader),
        chain=reader.chain,
        reader=reader.id,
        links={"preferences": [reader.id.hex(), reader.epoch]},
        now=now,
    )
