"""Trouble with a mailing that an operator must hear of: told by a notice, once for each kind of trouble."""

from __future__ import annotations

import datetime as dt

from service.delivery.notices import MAILING_TROUBLE, tell_operators
from service.queue import Bell
from service.store import Session, mailings, publication

UNPRINTABLE = "unprintable"
BLOCKED = "blocked"
UNCHECKED = "unchecked"
REFUSED_CONTENT = "content"
POLICY = "policy"
RELAYS = "relays"
SET_BACK = "set back"


def tell(session: Session, bell: Bell, mailing: int, kind: str, problem: str, *, now: dt.datetime) -> int:
    """Send the operators a notice that says what is wrong with the mailing; how many were not told of it before."""
    return _tell(session, bell, mailing, f"{mailing}:{kind}", problem, now=now)


def tell_of_all(session: Session, bell: Bell, mailing: int, kind: str, problem: str, *, now: dt.datetime) -> int:
    """As `tell`, of what keeps whatever mailings there are from going on: it is told of one of them alone."""
    return _tell(session, bell, mailing, kind, problem, now=now)


def _tell(session: Session, bell: Bell, mailing: int, once: str, problem: str, *, now: dt.datetime) -> int:
    known = publication.find(session)
    if known is None:
        return 0
    return tell_operators(
        session,
        bell,
        MAILING_TROUBLE,
        once=f"{MAILING_TROUBLE}:{once}",
        parameters={"week": mailings.get(session, mailing).week, "problem": problem},
        publication=known,
        now=now,
    )
