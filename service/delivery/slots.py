"""The weekly slots: the issue of the week goes out by itself when it is approved, once, and never an older one.

Any number of processes may run this, or none for an hour: a slot is decided once, by who holds the schedule's row.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from service import log
from service.delivery import release
from service.delivery.notices import ISSUE_BLOCKED, SLOT_MISSED, tell_operators
from service.delivery.release import Check
from service.domain.blockers import Blocker
from service.domain.content import Publication
from service.domain.errors import ConflictError, NotFoundError
from service.domain.mailing import MailingState
from service.domain.schedule import Schedule, WeeklySlot, last_slot, next_slot, slots_between
from service.queue import Bell
from service.render.dates import date_and_time
from service.store import Session, mailings, publication, slots
from service.store.slots import SlotState

ACTOR = "schedule"
WARN_BEFORE = (dt.timedelta(hours=24), dt.timedelta(hours=2))
SENT_BEFORE = "sent before"
CANCELLED_BEFORE = "cancelled before"
SUPERSEDED = "the next slot has come"
# Of slots that were missed longer ago than this, while the whole service was away, operators are not told one by one.
_TELL_WITHIN = dt.timedelta(days=28)

_log = log.get("slots")


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a slot just now; `mailing` is the one that its issue has."""

    slot: WeeklySlot
    state: SlotState
    reason: str | None = None
    mailing: int | None = None


def run_due_slots(session: Session, bell: Bell, check: Check, *, now: dt.datetime) -> list[Decision]:
    """Decide the slots that have come by `now`, the oldest first; what became of each that was decided now.

    An issue that nothing blocks is released; a blocked one is looked at again at every call, until its slot is
    `late_hours` past or the next one has come: then it is missed, and the operators are told.
    """
    schedule = slots.schedule(session)
    newest = None if schedule is None else last_slot(schedule, now)
    if newest is None or _is_decided(session, newest):
        return []
    # What was read up to here may be old: whoever holds the schedule decides.
    schedule = slots.schedule(session, hold=True)
    newest = None if schedule is None else last_slot(schedule, now)
    if schedule is None or newest is None:
        return []
    decided = slots.decided_until(session)
    undecided = list(slots_between(schedule, schedule.since if decided is None else decided, now))
    skipped = slots.skipped(session, [slot.week for slot in undecided])
    decisions = []
    for slot in undecided:
        slots.enter(session, slot)
        made = _already(session, schedule, slot, skip=slot.week in skipped, newest=newest, now=now)
        made = made or _released(session, bell, check, slot, now)
        if made.state is SlotState.WAITING:
            slots.keep_waiting(session, slot, made.reason or "")
            continue
        if slots.decide(session, slot, made.state, now=now, reason=made.reason, mailing=made.mailing):
            decisions.append(made)
            _announce(session, bell, schedule, made, now)
    return decisions


def _is_decided(session: Session, slot: WeeklySlot) -> bool:
    row = slots.find(session, slot.at)
    return row is not None and row.state is not SlotState.WAITING


def _already(
    session: Session, schedule: Schedule, slot: WeeklySlot, *, skip: bool, newest: WeeklySlot, now: dt.datetime
) -> Decision | None:
    """What is clear without a look at the issue's texts; None where these decide."""
    if skip:
        return Decision(slot, SlotState.SKIPPED)
    before = _sent_before(session, slot)
    if before is not None:
        return before
    if slot != newest:
        return Decision(slot, SlotState.MISSED, SUPERSEDED)
    if now > slot.at + schedule.late:
        row = slots.find(session, slot.at)
        reason = (row and row.reason) or f"nobody looked within {schedule.late_hours} hours"
        return Decision(slot, SlotState.MISSED, reason)
    return None


def _released(session: Session, bell: Bell, check: Check, slot: WeeklySlot, now: dt.datetime) -> Decision:
    try:
        mailing = release.send(session, str(slot.week), bell, check, actor=ACTOR, now=now)
    except release.BLOCKING as error:
        return Decision(slot, SlotState.WAITING, str(error))
    except ConflictError as error:
        # Somebody sent it by hand in this very moment.
        return _sent_before(session, slot) or Decision(slot, SlotState.WAITING, str(error))
    return Decision(slot, SlotState.RELEASED, None, mailing)


def _sent_before(session: Session, slot: WeeklySlot) -> Decision | None:
    first = mailings.of_issue(session, str(slot.week))
    if first is None:
        return None
    reason = CANCELLED_BEFORE if first.state is MailingState.CANCELLED else SENT_BEFORE
    return Decision(slot, SlotState.RELEASED, reason, first.id)


def _announce(session: Session, bell: Bell, schedule: Schedule, made: Decision, now: dt.datetime) -> None:
    words = {"week": str(made.slot.week), "slot": made.slot.at.isoformat(), "reason": made.reason}
    if made.state is not SlotState.MISSED:
        _log.info(f"slot-{made.state.value}", mailing=made.mailing, **words)
        return
    _log.warning("slot-missed", **words)
    known = publication.find(session)
    if known is None or now - made.slot.at > _TELL_WITHIN:
        return
    tell_operators(
        session,
        bell,
        SLOT_MISSED,
        once=f"{SLOT_MISSED}:{made.slot.at.isoformat()}",
        parameters=_parameters(known, schedule, made.slot),
        publication=known,
        now=now,
    )


def warn_ahead(session: Session, bell: Bell, check: Check, *, now: dt.datetime) -> int:
    """A day and two hours before the next slot, tell the operators what blocks its issue; how many were told.

    Each of the two moments is looked at once, by whoever comes first after it; when both have gone by, only the later.
    """
    schedule = slots.schedule(session)
    if schedule is None:
        return 0
    slot = next_slot(schedule, now)
    begun = [before for before in WARN_BEFORE if slot.at - before <= now]
    if not begun:
        return 0
    before = min(begun)
    if not slots.mark_warned(session, slot.at - before):
        return 0
    if slots.skipped(session, [slot.week]) or mailings.of_issue(session, str(slot.week)) is not None:
        return 0
    known = publication.find(session)
    blocking = None if known is None else _blocking(session, str(slot.week), check)
    if known is None or not blocking:
        return 0
    findings = [_told(blocker, str(slot.week)) for blocker in blocking]
    _log.warning("slot-blocked", week=str(slot.week), slot=slot.at.isoformat(), findings=len(findings))
    return tell_operators(
        session,
        bell,
        ISSUE_BLOCKED,
        once=f"{ISSUE_BLOCKED}:{slot.at.isoformat()}:{before // dt.timedelta(hours=1)}h",
        parameters={**_parameters(known, schedule, slot), "findings": findings},
        publication=known,
        now=now,
    )


def _blocking(session: Session, week: str, check: Check) -> Sequence[Blocker]:
    try:
        return check(session, week)
    except NotFoundError:
        return [Blocker("there is no issue of this week yet")]
    except release.BLOCKING as error:
        return [Blocker(str(error))]


def _parameters(known: Publication, schedule: Schedule, slot: WeeklySlot) -> dict[str, str]:
    local = date_and_time(slot.at, known.languages[0], schedule.timezone)
    return {"week": str(slot.week), "slot": f"{local} ({schedule.timezone})"}


def _told(blocker: Blocker, week: str) -> tuple[str, str, str]:
    """Language (or nothing), article (or the week) and what is wrong, for the notice."""
    line = f"line {blocker.line}: " if blocker.line else ""
    return blocker.language or "", blocker.article or week, line + blocker.message
