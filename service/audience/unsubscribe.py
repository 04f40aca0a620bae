"""Leaving by the link of a mail: one POST, no login, the same answer whoever asks."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

from service.audience.departures import Departures, leave, note
from service.domain.subscriber import public_id
from service.domain.tokens import LinkSigner
from service.domain.weeks import Week
from service.store import Session, audit, subscribers
from service.store.departures import Step


class Outcome(StrEnum):
    """What a page may say. Whether a reader was there, had left before or is erased is no business of the page."""

    DONE = "done"
    NOT_A_LINK = "not-a-link"


def unsubscribe(
    session: Session, links: LinkSigner, departures: Departures, token: str, *, now: dt.datetime
) -> Outcome:
    """Have the reader of a link leave. Repeating it changes nothing; links of older epochs work for ever."""
    claim = links.read(token)
    if claim is None:
        return Outcome.NOT_A_LINK
    reader = subscribers.get(session, claim.subscriber)
    if reader is not None and leave(session, reader.id):
        audit.append(session, at=now, actor="reader", action="subscriber.unsubscribe", subject=public_id(reader.id))
        note(departures, [(reader.address_hash, Step.UNSUBSCRIBED)], Week.of(now.date()))
    return Outcome.DONE
