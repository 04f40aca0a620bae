"""A batch whose edition cannot be printed: it is set aside, and the mailing pauses once nothing else is left to do."""

from __future__ import annotations

import datetime as dt

from service import log
from service.delivery import control, trouble
from service.domain.errors import ConflictError
from service.queue import Bell
from service.store import Session, batches, mailings
from service.store.batches import Claim
from service.store.instants import stored

ACTOR = "press"
# It is tried again by itself, in case the fault was mended: printing costs little.
AGAIN = dt.timedelta(seconds=60)

_log = log.get("dispatch")


def set_aside(session: Session, bell: Bell, claim: Claim, problem: str, *, now: dt.datetime) -> None:
    """Leave the batch for a minute and tell the operators; pause the mailing where all the others are done.

    Readers who chose other languages after the planning may want an edition that nobody has printed before.
    """
    mailing = claim.mailing
    mailings.lock(session, mailing)
    batches.give_back(session, claim, not_before=stored(now + AGAIN))
    reason = (
        f"{problem}. Its readers wait, the others are served. Mend it, then run: tydzen mailing resume {mailing}; "
        "or give them up: tydzen mailing cancel " + str(mailing)
    )
    trouble.tell(session, bell, mailing, f"{trouble.UNPRINTABLE}:{claim.chain}", reason, now=now)
    _log.warning("edition-unprintable", mailing=mailing, batch=claim.batch, chain=claim.chain)
    if batches.others_open(session, mailing, now_ms=stored(now)):
        return
    try:
        control.pause(session, mailing, actor=ACTOR, now=now, reason=reason)
    except ConflictError:
        return
