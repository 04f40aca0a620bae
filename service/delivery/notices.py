"""Notices: single mails to one person each, enqueued once, and those that tell the operators what needs them."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Mapping
from typing import Any

from service import log
from service.delivery.recording import GIVEN_UP, STATES
from service.domain.content import Publication
from service.domain.delivery import DeliveryState
from service.domain.replies import ReplyClass
from service.domain.retries import next_attempt
from service.mail.autopsy import Fate, JournalContents
from service.queue import SEND_NOTICE, Bell, ring_after_commit
from service.store import Session
from service.store import notices as store

ISSUE_BLOCKED = "issue-blocked"
SLOT_MISSED = "slot-missed"
MAILING_TROUBLE = "mailing-trouble"

# Final notices are kept so long that nothing is told twice, without their addresses.
KEEP = dt.timedelta(days=30)
RING_AGAIN = dt.timedelta(seconds=store.RING_QUIET_SECONDS)

_log = log.get("notices")


def enqueue(
    session: Session,
    bell: Bell,
    kind: str,
    *,
    once: str,
    address: str,
    language: str,
    parameters: Mapping[str, Any],
    now: dt.datetime,
) -> int | None:
    """The id of a new notice, which is rung after commit; None where there was one of that `once` before.

    `once` says what the notice is about, in at most 160 characters, without an address. `parameters` are the names its
    templates use, as JSON; an address has no place there and is cut out.
    """
    made = store.add(session, kind, once=once, address=address, language=language, parameters=parameters, now=now)
    if made is not None:
        ring_after_commit(session, bell, SEND_NOTICE, made)
    return made


def tell_operators(
    session: Session,
    bell: Bell,
    kind: str,
    *,
    once: str,
    parameters: Mapping[str, Any],
    publication: Publication,
    now: dt.datetime,
) -> int:
    """Send the notice to every operator, in the publication's first language; how many were not told of it before."""
    told = 0
    for address in publication.operators:
        # A keyed hash tells the operators apart: `once` is no place for an address.
        own = f"{once}:{session.sealer.address_hash(address).hex()[:16]}"
        made = enqueue(
            session,
            bell,
            kind,
            once=own,
            address=address,
            language=publication.languages[0],
            parameters=parameters,
            now=now,
        )
        told += made is not None
    if not publication.operators:
        _log.warning("nobody-to-tell", kind=kind, once=once)
    return told


def ring_due(session: Session, bell: Bell, *, now: dt.datetime) -> int:
    """Ring the notices whose hint was lost or whose next attempt is due; how many were rung."""
    found = store.due(session, now)
    for notice in found:
        ring_after_commit(session, bell, SEND_NOTICE, notice)
    return len(found)


def journal_id(notice: int) -> int:
    """The number of a notice in journals and outcomes, where it must never be taken for a delivery's."""
    return -notice


def result(
    reply_class: ReplyClass, *, made_at: dt.datetime, attempt: int, now: dt.datetime
) -> tuple[DeliveryState, dt.datetime]:
    """Where that reply leaves a notice, and when it is to be rung again if it is pending or deferred then."""
    # A refusal by policy is our own fault: it is mended, and then this must still be told.
    state = DeliveryState.DEFERRED if reply_class is ReplyClass.POLICY else STATES[reply_class]
    if state is not DeliveryState.DEFERRED:
        return state, now + RING_AGAIN
    # The jitter spreads load; nothing secret hangs on it.
    due = next_attempt(made_at, attempt, now, random.random())  # noqa: S311
    if due is None:
        return GIVEN_UP.get(reply_class, DeliveryState.EXPIRED), now
    return state, due


def settle_journal(session: Session, contents: JournalContents, *, now: dt.datetime) -> int:
    """Decide the notices that a dead worker left open, by its journal; how many."""
    left = store.open_attempts(session, contents.sender_id)
    for one in left:
        verdict = contents.verdict(journal_id(one.id), one.attempt)
        if verdict.fate is Fate.UNCERTAIN:
            reason = "the worker died between the final dot and its reply"
            store.record(session, one.id, one.attempt, DeliveryState.UNCERTAIN, due_at=now, reason=reason)
            continue
        said = verdict.reply_class or ReplyClass.NOT_SENT
        state, due = result(said, made_at=one.made_at, attempt=one.attempt, now=now)
        reason = f"{said.value} {verdict.code or ''} read from the journal of the worker, which died"
        store.record(session, one.id, one.attempt, state, due_at=due, reason=reason)
    return len(left)


def give_up(session: Session, sender: int, *, now: dt.datetime) -> int:
    """Make the open notices of a sender whose host stays away uncertain; how many. If it returns, it still decides."""
    left = [one for one in store.open_attempts(session, sender) if one.state is DeliveryState.ATTEMPTING]
    for one in left:
        reason = "its host has not come back"
        store.record(session, one.id, one.attempt, DeliveryState.UNCERTAIN, due_at=now, reason=reason)
    return len(left)
