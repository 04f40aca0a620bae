"""What a reader accepts: the chain of languages, mails of text alone, and nothing before a day."""

from __future__ import annotations

import datetime as dt

from service.domain.chains import Chain
from service.domain.errors import InvalidInputError
from service.domain.weeks import Week
from service.store import Session, audit, subscribers
from service.store.subscribers import Subscriber

LONGEST_PAUSE = dt.timedelta(days=366)


def set_chain(session: Session, reader: Subscriber, chain: Chain, *, actor: str | None, now: dt.datetime) -> bool:
    """Give the reader another chain, at once: a mailing that runs moves what was not sent yet. False if it is the same.

    `actor` is the operator whom the audit log names; None for the readers themselves, of whom it says nothing.
    """
    if reader.chain == chain:
        return False
    subscribers.set_chain(session, reader.id, chain, week=Week.of(now.date()))
    _note(session, reader, "subscriber.set", str(reader.chain), str(chain), actor=actor, now=now)
    return True


def set_text_only(
    session: Session, reader: Subscriber, *, text_only: bool, actor: str | None, now: dt.datetime
) -> bool:
    """Have the reader mailed text alone, or both forms, at once; False if it is so already."""
    if reader.text_only == text_only:
        return False
    subscribers.set_text_only(session, reader.id, text_only=text_only)
    _note(session, reader, "subscriber.text", str(reader.text_only), str(text_only), actor=actor, now=now)
    return True


def pause(session: Session, reader: Subscriber, until: dt.date | None, *, actor: str | None, now: dt.datetime) -> None:
    """Have nothing mailed to the reader before that day (UTC), or end the pause; a mailing that runs heeds it at once.

    Raises InvalidInputError for a day that is not one of the next LONGEST_PAUSE.
    """
    today = now.date()
    if until is not None and not today < until <= today + LONGEST_PAUSE:
        raise InvalidInputError(f"a pause ends on one of the next {LONGEST_PAUSE.days} days")
    if reader.paused_until == until:
        return
    subscribers.set_pause(session, reader.id, until)
    # Until when somebody is away is nobody's business.
    _note(session, reader, "subscriber.pause", bool(reader.paused_until), bool(until), actor=actor, now=now)


def _note(
    session: Session,
    reader: Subscriber,
    action: str,
    before: object,
    after: object,
    *,
    actor: str | None,
    now: dt.datetime,
) -> None:
    if actor is None:
        return
    details = {"before": before, "after": after}
    audit.append(session, at=now, actor=actor, action=action, subject=reader.public_id, details=details)
