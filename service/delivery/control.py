"""What an operator does to a mailing: pause, resume, cancel, retry, change its rate. Each takes effect at the gate."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from service.delivery import standing
from service.delivery.correcting import Proofs
from service.delivery.plan import FIRST_RINGS
from service.delivery.release import Check, require_rate, require_sendable
from service.domain.mailing import MailingEvent, MailingState, require
from service.domain.weeks import Week
from service.queue import PLAN_MAILING, SEND_BATCH, Bell, ring_after_commit
from service.store import Session, audit, batches, interventions, issues, mailings, measures, notices
from service.store.instants import stored
from service.store.interventions import EVERY, Again


def pause(session: Session, mailing: int, *, actor: str, now: dt.datetime, reason: str | None = None) -> None:
    """Stop at the next gate of every worker; letters past it are finished. Raises ConflictError, NotFoundError."""
    state = require(mailing, mailings.lock(session, mailing).state, MailingEvent.PAUSE)
    mailings.move(session, mailing, state, now=now, reason=reason)
    _audit(session, mailing, "mailing.pause", actor, now)


def resume(
    session: Session, mailing: int, bell: Bell, *, proofs: Proofs, actor: str, now: dt.datetime
) -> Sequence[str]:
    """Go on sending, with the issue as it is now; the chains whose readers get a corrected edition from here on.

    Raises ConflictError where the mailing is not paused or must stay so, CheckFailedError where the issue was changed
    and cannot be sent as it is, NotFoundError; nothing changes then.
    """
    found = mailings.lock(session, mailing)
    state = require(mailing, found.state, MailingEvent.RESUME)
    standing.refuse_unsettled(session, found.week)
    corrected = proofs.correct(session, found, now=now)
    mailings.move(session, mailing, state, now=now)
    ring(session, mailing, bell, now=now)
    _audit(session, mailing, "mailing.resume", actor, now, corrected=list(corrected))
    return corrected


def cancel(session: Session, mailing: int, *, actor: str, now: dt.datetime) -> int:
    """End the mailing: what is not sent yet is skipped as cancelled; how many. Raises ConflictError, NotFoundError."""
    state = require(mailing, mailings.lock(session, mailing).state, MailingEvent.CANCEL)
    mailings.move(session, mailing, state, now=now, reason=f"cancelled by {actor}")
    cancelled = interventions.cancel_rest(session, mailing, now_ms=stored(now))
    _audit(session, mailing, "mailing.cancel", actor, now)
    return cancelled


def retry(
    session: Session,
    mailing: int,
    bell: Bell,
    check: Check,
    *,
    proofs: Proofs,
    actor: str,
    now: dt.datetime,
    which: Again = EVERY,
) -> int:
    """Try again, now, whoever may be tried again and is meant; how many.

    A mailing that was cancelled goes on with the issue as it is now, as a paused one does. One whose audience is not
    whole is planned first, or waits for its time where that is ahead. Raises ConflictError, NotFoundError, and
    CheckFailedError where the issue of such a one cannot be sent as it is; nothing changes then.
    """
    seen = mailings.get(session, mailing)
    if seen.state is MailingState.CANCELLED:
        # Before the mailing is locked, as by whoever releases one: what is checked is what is planned.
        issues.hold(session, Week.parse(seen.week))
    found = mailings.lock(session, mailing)
    state = _after_retry(session, found, check, now)
    again = interventions.retry(session, mailing, now_ms=stored(now), which=which)
    corrected: Sequence[str] = ()
    if found.state is MailingState.CANCELLED and (again or not found.whole):
        corrected = proofs.correct(session, found, now=now)
    # What was paused stays so, for the reason that it has.
    if state is not found.state and (again or not found.whole):
        mailings.move(session, mailing, state, now=now)
    if again or state is MailingState.PLANNING:
        ring(session, mailing, bell, now=now)
    if state is MailingState.PLANNING:
        ring_after_commit(session, bell, PLAN_MAILING, mailing)
    _audit(session, mailing, "mailing.retry", actor, now, corrected=list(corrected))
    return again


def after_retry(session: Session, mailing: int, check: Check, *, now: dt.datetime) -> MailingState:
    """The state that `retry` would lead to, of a mailing that has anybody to try again; raises what it would raise.

    PLANNING and SCHEDULED: the readers who would be mailed are not known yet.
    """
    return _after_retry(session, mailings.get(session, mailing), check, now)


def retryable(session: Session, mailing: int, which: Again = EVERY) -> int:
    """How many `retry` would try again."""
    return interventions.retryable(session, mailing, which)


def _after_retry(session: Session, found: mailings.Mailing, check: Check, now: dt.datetime) -> MailingState:
    state = require(found.id, found.state, MailingEvent.RETRY)
    standing.refuse_unsettled(session, found.week)
    if found.whole:
        return state
    # Cancelled before its audience was whole, perhaps because something blocked the issue: what is planned from here
    # on is the issue as it is now.
    require_sendable(session, found.week, check)
    ahead = found.slices is None and found.release_at is not None and found.release_at > now
    return MailingState.SCHEDULED if ahead else MailingState.PLANNING


def set_rate(session: Session, mailing: int, rate: float, *, actor: str, now: dt.datetime) -> None:
    """Change the rate, in mails per second, effective with the next group; 0 leaves the installation's.

    Raises InvalidInputError for a rate that is none, NotFoundError.
    """
    require_rate(rate)
    mailings.get(session, mailing)
    mailings.set_rate(session, mailing, rate or None)
    _audit(session, mailing, "mailing.rate", actor, now, rate=rate)


def ring(session: Session, mailing: int, bell: Bell, *, now: dt.datetime) -> None:
    """Have the first batches of a mailing that has work again sent at once."""
    # Whoever resumes or retries has mended something: notices that wait for the same go at once, too.
    notices.hasten(session, now)
    batches.forget_rings(session, mailing)
    for batch in batches.to_ring(session, now_ms=stored(now), quiet_seconds=0, limit=FIRST_RINGS, mailing=mailing):
        ring_after_commit(session, bell, SEND_BATCH, batch)
    # It was not for want of progress that nothing happened before. Last, as workers do: measures are locked after all.
    measures.note_progress(session, mailing, now)


def _audit(session: Session, mailing: int, action: str, actor: str, now: dt.datetime, **details: Any) -> None:
    audit.append(session, at=now, actor=actor, action=action, subject=f"mailing:{mailing}", details=details)
