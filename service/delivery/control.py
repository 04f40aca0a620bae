"""What an operator does to a mailing: pause, resume, cancel, retry, change its rate. Each takes effect at the gate."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.delivery import standing
from service.delivery.correcting import Proofs
from service.delivery.plan import FIRST_RINGS
from service.delivery.release import Check, require_rate, require_sendable
from service.domain.delivery import RetryReason
from service.domain.errors import ConflictError
from service.domain.mailing import SETTLED, MailingEvent, MailingState, require
from service.domain.weeks import Week
from service.queue import PLAN_MAILING, SEND_BATCH, Bell, ring_after_commit
from service.store import Session, audit, batches, interventions, issues, mailings, measures, notices
from service.store.instants import stored
from service.store.interventions import EVERY, Again

# What only an operator sets going, with the issue as it is then.
_STANDING_STILL = SETTLED | {MailingState.PAUSED}


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry led to, or would: the mailing's state, the letters that are tried again, the corrected chains.

    In PLANNING and SCHEDULED the readers who would be mailed are not known yet. `corrected` as from `resume`.
    """

    state: MailingState
    again: int
    corrected: Sequence[str] = ()


def pause(session: Session, mailing: int, *, actor: str, now: dt.datetime, reason: str | None = None) -> None:
    """Stop at the next gate of every worker; letters past it are finished. Raises ConflictError, NotFoundError."""
    state = require(mailing, mailings.lock(session, mailing).state, MailingEvent.PAUSE)
    mailings.move(session, mailing, state, now=now, reason=reason)
    _audit(session, mailing, "mailing.pause", actor, now)


def resume(
    session: Session, mailing: int, bell: Bell, *, proofs: Proofs, actor: str, now: dt.datetime
) -> Sequence[str]:
    """Go on sending, with the issue as it is now; the chains whose readers get a corrected edition from here on.

    Of one that was cancelled, and taken up for some alone, these alone get it. Raises ConflictError where the mailing
    is not paused or must stay so, CheckFailedError where the issue was changed and cannot be sent as it is,
    NotFoundError; nothing changes then.
    """
    found = lock(session, mailing)
    state = require(mailing, found.state, MailingEvent.RESUME)
    standing.refuse_unsettled(session, found.week)
    added: frozenset[str] = frozenset() if found.cancelled else proofs.added(session, found)
    corrected = proofs.correct(session, found, added=added, now=now)
    interventions.give_edition(session, mailing, added, now_ms=stored(now))
    mailings.move(session, mailing, state, now=now)
    mailings.begin_anew(session, mailing, now)
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
) -> Retried:
    """Try again, now, whoever may be tried again and is meant.

    Whom a cancel left out gets the issue as it is now, as of a paused mailing. Where some alone are meant of what was
    cancelled, the rest stays so, also what comes back later. One whose audience is not whole is planned first, or waits
    for its time where that is ahead, and cannot be retried for some alone. Raises ConflictError, NotFoundError, and
    CheckFailedError where the issue of such a one cannot be sent as it is; nothing changes then.
    """
    found = lock(session, mailing)
    everybody = which == EVERY
    state = _after_retry(session, found, check, now, which)
    which = _meant(session, found, proofs, which)
    anew = _goes_on_anew(session, found, state, which)
    if which.after_cancel:
        interventions.cancel_rest(session, mailing, now_ms=stored(now))
    again = interventions.retry(session, mailing, now_ms=stored(now), which=which)
    if found.whole and not again:
        state, anew = found.state, False
    corrected = proofs.correct(session, found, added=which.added, now=now) if anew else ()
    if found.cancelled and (again or state is not found.state):
        _take_up(session, found, everybody=everybody)
    # What was paused stays so, for the reason that it has.
    if state is not found.state:
        mailings.move(session, mailing, state, now=now)
    if again or state is MailingState.PLANNING:
        mailings.begin_anew(session, mailing, now)
        ring(session, mailing, bell, now=now)
    if state is MailingState.PLANNING:
        ring_after_commit(session, bell, PLAN_MAILING, mailing)
    _audit(session, mailing, "mailing.retry", actor, now, corrected=list(corrected))
    return Retried(state, again, corrected)


def foresee_retry(
    session: Session, mailing: int, check: Check, *, proofs: Proofs, now: dt.datetime, which: Again = EVERY
) -> Retried:
    """What `retry` would lead to; raises what it would raise. Changes nothing, and holds up nobody who sends."""
    found = mailings.get(session, mailing)
    state = _after_retry(session, found, check, now, which)
    which = _meant(session, found, proofs, which)
    anew = _goes_on_anew(session, found, state, which)
    again = interventions.retryable(session, mailing, which)
    if found.whole and not again:
        state, anew = found.state, False
    return Retried(state, again, proofs.foresee(session, found, which) if anew else ())


def after_retry(
    session: Session, mailing: int, check: Check, *, now: dt.datetime, which: Again = EVERY
) -> MailingState:
    """The state that `retry` would lead to, of a mailing that has anybody to try again; raises what it would raise.

    PLANNING and SCHEDULED: the readers who would be mailed are not known yet.
    """
    return _after_retry(session, mailings.get(session, mailing), check, now, which)


def _meant(session: Session, found: mailings.Mailing, proofs: Proofs, which: Again) -> Again:
    """What was cancelled goes on with the issue as it is now: with the editions, too, that it did not have before.

    What is paused gets them when it is resumed.
    """
    if found.state is MailingState.CANCELLED and which != EVERY:
        which = replace(which, after_cancel=True)
    if not found.cancelled or found.state is MailingState.PAUSED or which.reasons:
        return which
    return replace(which, added=proofs.added(session, found))


def _goes_on_anew(session: Session, found: mailings.Mailing, state: MailingState, which: Again) -> bool:
    """Whether a retry that finds somebody, and leads to that state, is to go on with the issue as it is now.

    Also where the mailing is being sent to some alone, and whom the cancel left out is among those who join them.
    """
    if state is not found.state:
        return was_cancelled(session, found)
    if not found.cancelled or found.state is MailingState.PAUSED:
        return False
    if which.reasons and RetryReason.CANCELLED not in which.reasons:
        return False
    return interventions.retryable(session, found.id, replace(which, reasons=frozenset({RetryReason.CANCELLED}))) > 0


def was_cancelled(session: Session, found: mailings.Mailing) -> bool:
    """Whether a mailing left somebody out when it was cancelled, be it that it was taken up for others.

    Its issue may have been changed since. One that is paused is corrected when it is resumed.
    """
    if found.state is MailingState.SENT and not found.cancelled:
        # As a program of before 0007 leaves it.
        return interventions.left_out(session, found.id)
    return found.cancelled and found.state is not MailingState.PAUSED


def cancel_what_came_back(session: Session, mailing: int, *, now: dt.datetime) -> None:
    """Before a cancelled mailing is taken up for some alone: what has come back since would go out with them.

    Raises ConflictError where anything is still to come back.
    """
    interventions.cancel_rest(session, mailing, now_ms=stored(now))
    _refuse_under_way(session, mailing)


def _refuse_under_way(session: Session, mailing: int) -> None:
    open_still = interventions.under_way(session, mailing)
    if open_still:
        raise ConflictError(
            f"letters of mailing {mailing} are under way ({open_still}), as they were when it was cancelled: send "
            f"again when it is known what became of them; see: tydzen mailing status {mailing}"
        )


def take_up_for_some(session: Session, found: mailings.Mailing) -> None:
    """A mailing that was cancelled goes on for those who were made pending, and for nobody else.

    What nobody named and comes back later, uncertain now, is skipped.
    """
    if found.state is MailingState.CANCELLED:
        interventions.leave_uncertain(session, found.id)
        mailings.keep_cancelled(session, found)


def _take_up(session: Session, found: mailings.Mailing, *, everybody: bool) -> None:
    if everybody:
        interventions.take_back_uncertain(session, found.id)
        mailings.forget_cancelled(session, found)
    else:
        take_up_for_some(session, found)


def _after_retry(
    session: Session, found: mailings.Mailing, check: Check, now: dt.datetime, which: Again
) -> MailingState:
    state = require(found.id, found.state, MailingEvent.RETRY)
    standing.refuse_unsettled(session, found.week)
    if found.whole:
        if found.state is MailingState.CANCELLED and which != EVERY:
            _refuse_under_way(session, found.id)
        return state
    if which != EVERY:
        # Whoever has yet to be planned would be mailed whatever their provider.
        raise ConflictError(
            f"mailing {found.id} is not planned yet; retry it without --provider and --reason, for all whom it is for"
        )
    if found.audience != "all" and not mailings.knows_audience(session, found.id):
        raise ConflictError(
            f"mailing {found.id} cannot be planned: whom it was for was forgotten, and no issue is sent a second time; "
            "send its articles in the issue of another week"
        )
    # Cancelled before its audience was whole, perhaps because something blocked the issue: what is planned from here
    # on is the issue as it is now.
    require_sendable(session, found.week, check)
    ahead = found.slices is None and found.release_at is not None and found.release_at > now
    return MailingState.SCHEDULED if ahead else MailingState.PLANNING


def lock(session: Session, mailing: int) -> mailings.Mailing:
    """As `mailings.lock`, for whoever may take up what has ended, is paused, or was cancelled: its issue is held, too.

    Raises NotFoundError.
    """
    seen = mailings.get(session, mailing)
    if seen.state in _STANDING_STILL or (seen.cancelled and seen.state is MailingState.SENDING):
        # Before the mailing is locked, as by whoever releases one: what is checked is what is planned.
        issues.hold(session, Week.parse(seen.week))
    return mailings.lock(session, mailing)


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
