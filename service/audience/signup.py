"""Signing up on the web, in two steps. Posting writes the same row for every address; a worker sees whose it is.

So the page cannot tell a stranger who is subscribed, neither by what it says nor by how long it takes.
"""

from __future__ import annotations

import datetime as dt

from service import log
from service.audience.moving import ask_at
from service.audience.reader_notices import tell
from service.domain.chains import Chain
from service.domain.reader_notices import CONFIRM
from service.domain.signup import MOST_CONFIRMATIONS, TEXT_VERSION, may_confirm
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import hour_of
from service.domain.weeks import Week
from service.queue import ANSWER_SIGNUP, Bell, ring_after_commit
from service.store import (
    DuplicateError,
    Session,
    SpoiledAddressError,
    confirmations,
    signups,
    subscribers,
    suppressions,
)

_log = log.get("signup")


def sign_up(
    session: Session,
    bell: Bell,
    address: str,
    chain: Chain,
    *,
    now: dt.datetime,
    newest: bool = False,
    mover: tuple[bytes, int] | None = None,
) -> None:
    """Leave the sign-up for a worker, which is rung after commit. `address` is checked (`audience/addresses`).

    With `newest` the newest issue is to be mailed at once when it is confirmed; a `mover` is the id and the epoch of a
    reader who wants the mails at this address.
    """
    made = signups.add(session, address, chain, text_version=TEXT_VERSION, now=now, newest=newest, mover=mover)
    ring_after_commit(session, bell, ANSWER_SIGNUP, made)


def answer(session: Session, bell: Bell, signup: int, *, now: dt.datetime) -> bool:
    """Mail a confirmation to whoever signed up, and keep a pending reader; whether one was mailed.

    Not to who complained or whom an operator suppressed, not twice a day, not a fourth time without an answer. A reader
    who is there already keeps status and chain until the link is used. Answering twice does nothing.
    """
    try:
        asked = signups.take(session, signup)
    except SpoiledAddressError as error:
        _log.error("signup-unreadable", signup=signup, error=str(error))
        return False
    if asked is None:
        return False
    if asked.mover is not None:
        return ask_at(session, bell, asked, asked.mover, now=now)
    return _ask(session, bell, asked, now)


def _ask(session: Session, bell: Bell, asked: signups.SignUp, now: dt.datetime) -> bool:
    address_hash = session.sealer.address_hash(asked.address)
    reader = subscribers.find_hash(session, address_hash)
    suppression = suppressions.find(session, address_hash)
    if not may_confirm(reader.status if reader else None, suppression.reason if suppression else None):
        return False
    if confirmations.unanswered(session, address_hash) >= MOST_CONFIRMATIONS:
        return False
    made = confirmations.add(
        session, address_hash, asked.chain, text_version=asked.text_version, now=now, newest=asked.newest
    )
    if made is None:
        return False
    if reader is None:
        _keep_pending(session, asked, now)
    links = {"confirm": [made.hex(), hour_of(now)]}
    tell(session, bell, CONFIRM, about=made, address=asked.address, chain=asked.chain, links=links, now=now)
    return True


def _keep_pending(session: Session, asked: signups.SignUp, now: dt.datetime) -> None:
    week = Week.of(now.date())
    try:
        subscribers.add(session, asked.address, asked.chain, status=SubscriberStatus.PENDING, consent=None, week=week)
    except DuplicateError:
        # Somebody else added this reader a moment ago, who is asked all the same.
        _log.debug("signup-known-meanwhile")
