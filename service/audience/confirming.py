"""Confirming a sign-up by the link of its mail: one POST makes the reader active, with the evidence of consent."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

from service.audience.departures import Departures, note
from service.audience.moving import move
from service.audience.preferences import pause, set_chain
from service.audience.reader_notices import tell
from service.domain.chains import Chain
from service.domain.signup import NEWEST_ISSUE, WELCOME, evidence, may_confirm
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import ConfirmationSigner
from service.domain.weeks import Week
from service.queue import Bell
from service.store import Session, confirmations, ledger, mailings, releases, subscribers, suppressions
from service.store.confirmations import Confirmation, State
from service.store.departures import Step
from service.store.subscribers import Subscriber


class Outcome(StrEnum):
    """What a page may say: forged, expired and withdrawn links, and used ones of who is mailed no more, are one."""

    CONFIRMED = "confirmed"
    MOVED = "moved"
    ALREADY = "already"
    STALE = "stale"


def confirm(
    session: Session, bell: Bell, links: ConfirmationSigner, departures: Departures, token: str, *, now: dt.datetime
) -> Outcome:
    """Make the reader of a confirmation active in the languages that its mail named, and lift what a sign-up lifts.

    Pressing again changes nothing, and is ALREADY as long as the reader is mailed there: who has left since is not
    brought back by an old link. An active reader keeps the first consent; the languages change, and a pause ends,
    because the page and the welcome promise the next issue. Who was active and suppressed comes back as others do, with
    the new consent: it outweighs what older logs say (`departures.reapply`).
    """
    row_id = links.read(token, now)
    asked = None if row_id is None else confirmations.hold(session, row_id)
    if asked is None:
        return Outcome.STALE
    if asked.state is not State.OPEN:
        return Outcome.ALREADY if _still_so(session, asked) else Outcome.STALE
    if asked.mover is not None:
        return Outcome.MOVED if move(session, bell, departures, asked, now=now) else Outcome.STALE
    reader = subscribers.find_hash(session, asked.address_hash)
    if reader is None:
        return Outcome.STALE
    suppression = suppressions.find(session, reader.address_hash)
    if not may_confirm(reader.status, suppression.reason if suppression else None):
        return Outcome.STALE
    confirmations.close(session, reader.address_hash)
    suppressions.lift(session, reader.address_hash)
    if reader.status is SubscriberStatus.ACTIVE and suppression is None:
        set_chain(session, reader, asked.chain, actor=None, now=now)
        pause(session, reader, None, actor=None, now=now)
    else:
        _activate(session, bell, asked, reader, token, now=now)
    note(departures, [(reader.address_hash, Step.CONFIRMED)], Week.of(now.date()))
    return Outcome.CONFIRMED


def already_confirmed(session: Session, row_id: bytes) -> bool:
    """Whether `confirm` would be ALREADY with the link of that confirmation; for who only looks at it."""
    asked = confirmations.used(session, row_id)
    return asked is not None and _still_so(session, asked)


def _still_so(session: Session, asked: Confirmation) -> bool:
    """Whether the reader of a used confirmation is mailed at its address now.

    One that was used with another, and never pressed itself, counts as that does: each mail said what is so now. Where
    it asked for a move, that very reader must have come there by it.
    """
    reader = subscribers.find_hash(session, asked.address_hash)
    if reader is None or reader.status is not SubscriberStatus.ACTIVE:
        return False
    if asked.mover is not None and asked.mover != (reader.id, reader.epoch - 1):
        return False
    return not suppressions.is_suppressed(session, reader.address_hash)


def _activate(
    session: Session, bell: Bell, asked: Confirmation, reader: Subscriber, token: str, *, now: dt.datetime
) -> None:
    words = evidence(asked.text_version, asked.week, token)
    subscribers.activate(session, reader.id, asked.chain, consent=words, week=Week.of(now.date()))
    newest = releases.newest(session)
    links = {"preferences": [reader.id.hex(), reader.epoch], "unsubscribe": [reader.id.hex(), 0]}
    address = subscribers.address(session, reader)
    if asked.newest and newest is not None and _may_get(session, newest, reader, asked.chain):
        tell(
            session,
            bell,
            NEWEST_ISSUE,
            about=asked.id,
            address=address,
            chain=asked.chain,
            reader=reader.id,
            links=links,
            week=str(newest),
            # As for everybody who begins: what was chosen before leaving is gone.
            text_only=False,
            now=now,
        )
    tell(
        session,
        bell,
        WELCOME,
        about=asked.id,
        address=address,
        chain=asked.chain,
        reader=reader.id,
        links=links,
        week=None if newest is None else str(newest),
        now=now,
    )


def _may_get(session: Session, week: Week, reader: Subscriber, chain: Chain) -> bool:
    """Whether the issue has an edition in the chain and its mailing does not mail it to this reader: it comes once."""
    mailing = mailings.of_issue(session, str(week))
    if mailing is None or not mailing.whole:
        return False
    if chain.shown(releases.languages(session, week)) is None:
        return False
    return ledger.of_subscriber(session, mailing.id, reader.id) is None
