"""What takes a fresh link to the present address: another address, the data, erasure. Mails get forwarded."""

from __future__ import annotations

import datetime as dt
from typing import Any

from service.audience.departures import Departures
from service.audience.erasure import erase
from service.audience.kept import kept_of
from service.audience.reader_notices import tell
from service.audience.signup import sign_up
from service.domain.reader_notices import REQUEST
from service.domain.subscriber import RequestPurpose, may_request
from service.domain.tokens import RequestSigner, hour_of
from service.queue import Bell
from service.store import Session, requests, subscribers, suppressions
from service.store.requests import Request
from service.store.subscribers import Subscriber


def request(session: Session, bell: Bell, reader: Subscriber, purpose: RequestPurpose, *, now: dt.datetime) -> None:
    """Mail a link for that purpose, once an hour and three times a day at the most; nothing else changes.

    No link to move for who has left: there are no mails to come to another address.
    """
    if not may_request(reader.status, purpose) or suppressions.is_suppressed(session, reader.address_hash):
        return
    made = requests.add(session, reader.id, reader.epoch, purpose, now=now)
    if made is None:
        return
    tell(
        session,
        bell,
        REQUEST,
        about=made,
        address=subscribers.address(session, reader),
        chain=reader.chain,
        reader=reader.id,
        links={"request": [made.hex(), hour_of(now)]},
        purpose=purpose.value,
        now=now,
    )


def find(session: Session, links: RequestSigner, token: str, *, now: dt.datetime) -> tuple[Request, Subscriber] | None:
    """The request of a link and its reader; None for a link that is forged, too old, used, or of an older address."""
    row_id = links.read(token, now)
    found = None if row_id is None else requests.find(session, row_id)
    reader = None if found is None else subscribers.get(session, found.subscriber)
    if found is None or reader is None or reader.epoch != found.epoch:
        return None
    return found, reader


def ask_new_address(
    session: Session, bell: Bell, found: Request, reader: Subscriber, address: str, *, now: dt.datetime
) -> None:
    """Leave the new address for a worker, as a sign-up is: nobody is told whose it is. The link is used up."""
    if requests.use(session, found.id):
        sign_up(session, bell, address, reader.chain, now=now, mover=(reader.id, reader.epoch))


def erase_now(session: Session, departures: Departures, reader: Subscriber, *, now: dt.datetime) -> None:
    """Erase the reader, with every request."""
    erase(session, departures, reader, actor=None, now=now)


def data(session: Session, found: Request, reader: Subscriber) -> dict[str, Any] | None:
    """All that is kept of the reader, as JSON; the link is used up, and None where it was.

    Once alone: whoever reads the mailbox later finds a link that gives nothing away.
    """
    if not requests.use(session, found.id):
        return None
    return kept_of(session, reader)
