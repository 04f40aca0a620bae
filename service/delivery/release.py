"""Releasing an issue: one production mailing per issue, by an operator, at a set time or by the weekly slot."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Sequence

from service import log
from service.delivery import standing, trouble
from service.domain.blockers import Blocker
from service.domain.errors import CheckFailedError, ConfigurationError, ConflictError, InvalidInputError, NotFoundError
from service.domain.limits import checked_rate
from service.domain.mailing import MailingState
from service.domain.weeks import Week
from service.queue import PLAN_MAILING, Bell, ring_after_commit
from service.store import Session, audit, issues, mailings
from service.store.mailings import Mailing

# The editorial checks answer this; they are passed in, because packages of one floor do not know each other.
Check = Callable[[Session, str], Sequence[Blocker]]

# What a check may raise instead of answering. A template or a setting that is wrong blocks the issue like a text.
BLOCKING = (NotFoundError, CheckFailedError, ConfigurationError, InvalidInputError)

_log = log.get("release")


def send(
    session: Session,
    week: str,
    bell: Bell,
    check: Check,
    *,
    actor: str,
    now: dt.datetime,
    rate: float | None = None,
    audience: Collection[bytes] | None = None,
    at: dt.datetime | None = None,
) -> int:
    """The id of a new mailing of the issue: planned at once, or at `at`.

    `rate` is the mailing's own, in mails per second; `audience` restricts it to these subscribers. Raises
    InvalidInputError for a rate that is none, NotFoundError, ConflictError naming the first mailing where there is one,
    CheckFailedError naming what blocks.
    """
    own_rate = None if rate is None else require_rate(rate)
    week = str(Week.parse(week))
    # Held against an import or an approval that comes at the same moment: what is checked is what is sent.
    issues.hold(session, Week.parse(week))
    refuse_second(session, week)
    standing.refuse_unsettled(session, week)
    require_sendable(session, week, check)
    later = at is not None and at > now
    state = MailingState.SCHEDULED if later else MailingState.PLANNING
    made = mailings.create(
        session,
        week,
        state=state,
        rate=own_rate or None,
        audience="all" if audience is None else "file",
        actor=actor,
        release_at=at,
        now=now,
    )
    if made is None:
        refuse_second(session, week)
        raise ConflictError(f"issue {week} is being sent by somebody else at this moment; see: tydzen mailing list")
    if audience is not None:
        mailings.add_audience(session, made, audience)
    audit.append(session, at=now, actor=actor, action="issue.send", subject=f"mailing:{made}", details={"week": week})
    if not later:
        ring_after_commit(session, bell, PLAN_MAILING, made)
    return made


def require_rate(rate: float, name: str = "rate") -> float:
    """`rate`, if a mailing can have it; raises InvalidInputError."""
    return checked_rate(rate, name, zero="0 = the installation's rate")


def refuse_second(session: Session, week: str) -> None:
    """Raise ConflictError where the issue has a mailing already."""
    first = mailings.of_issue(session, week)
    if first is not None:
        raise ConflictError(
            f"issue {week} is mailing {first.id} already ({first.standing}); see: tydzen mailing status {first.id}"
        )


def require_sendable(session: Session, week: str, check: Check) -> None:
    """Raise CheckFailedError naming all that blocks the issue; NotFoundError where there is no such issue."""
    blocking = check(session, week)
    if blocking:
        raise CheckFailedError(f"issue {week} cannot be sent yet:\n" + "\n".join(f"  {line}" for line in blocking))


def release_due(session: Session, bell: Bell, check: Check, *, now: dt.datetime) -> list[int]:
    """Start planning the mailings whose time has come, cancel those that something blocks now; returns the latter.

    One that cannot even be checked, or must wait, stays scheduled with the reason, and keeps none of the others.
    """
    cancelled = []
    for mailing in mailings.in_states(session, [MailingState.SCHEDULED]):
        if mailing.release_at is not None and mailing.release_at > now:
            continue
        try:
            standing.refuse_unsettled(session, mailing.week)
            issues.hold(session, Week.parse(mailing.week))
            blocking = check(session, mailing.week)
        except ConflictError as error:
            standing.keep_waiting(session, mailing, str(error), now=now)
        except BLOCKING as error:
            standing.keep_waiting(session, mailing, str(error), now=now)
            trouble.tell(session, bell, mailing.id, trouble.UNCHECKED, str(error), now=now)
        else:
            if _released(session, bell, mailing, blocking, now) and blocking:
                cancelled.append(mailing.id)
    return cancelled


def _released(session: Session, bell: Bell, mailing: Mailing, blocking: Sequence[Blocker], now: dt.datetime) -> bool:
    """Whether it was still scheduled: now it is planned, or cancelled where something blocks it."""
    state = MailingState.CANCELLED if blocking else MailingState.PLANNING
    reason = "; ".join(map(str, blocking)) or None
    if not mailings.move(session, mailing.id, state, now=now, reason=reason, from_state=MailingState.SCHEDULED):
        return False
    if blocking:
        _log.error("mailing-blocked", mailing=mailing.id, reason=reason)
        trouble.tell(session, bell, mailing.id, trouble.BLOCKED, reason or "", now=now)
    else:
        ring_after_commit(session, bell, PLAN_MAILING, mailing.id)
    return True
