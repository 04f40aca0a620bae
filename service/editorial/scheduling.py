"""The weekly schedule in an operator's hands: set it, leave a week out, see what comes next."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.domain.blockers import Blocker
from service.domain.errors import ConflictError, InvalidInputError, NotFoundError
from service.domain.schedule import (
    Schedule,
    WeeklySlot,
    WeekMode,
    checked_timezone,
    next_slot,
    parse_when,
    slot_of,
    slots_between,
)
from service.domain.weeks import Week
from service.store import Session, audit, issues, mailings, publication, slots
from service.store.slots import SlotRow, SlotState

# What stands against sending the issue of that week, a line each; empty: nothing.
Check = Callable[[Session, str], Sequence[Blocker]]

_CHANGED = "the schedule was changed"
_PAST_SLOTS = 5
# Sunday to Monday and the running week to the ended one are a fortnight together; zones lie up to 26 hours apart.
_FARTHEST_MOVE = dt.timedelta(days=16)


@dataclass(frozen=True, slots=True)
class Change:
    """The schedule after `set_schedule`; `abandoned` are weeks that were due at a slot which counts no longer.

    They had waited there, or their new slot is past.
    """

    schedule: Schedule
    changed: bool
    next: WeeklySlot
    abandoned: tuple[Week, ...]


@dataclass(frozen=True, slots=True)
class Ahead:
    """A slot to come. `state` is missing, blocked, ready or skipped, or that of the issue's mailing."""

    slot: WeeklySlot
    state: str
    blocking: tuple[str, ...] = ()
    mailing: int | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """The schedule, its next slots, and what became of the latest ones, the newest first."""

    schedule: Schedule | None
    ahead: tuple[Ahead, ...]
    past: tuple[SlotRow, ...]


def set_schedule(
    session: Session,
    when: str,
    *,
    timezone: str | None,
    week: WeekMode,
    late_hours: int,
    actor: str,
    now: dt.datetime,
    dry_run: bool = False,
) -> Change:
    """Make `when`, such as `Mon 09:00`, the weekly slot, in `timezone` or else in the publication's.

    Only slots from now on count; setting the same again changes nothing, and a new lateness alone moves no slot. Raises
    InvalidInputError that says how to write what is wrong.
    """
    weekday, minute = parse_when(when)
    wanted = Schedule(weekday, minute, checked_timezone(timezone or _own_timezone(session)), week, late_hours, now)
    known = slots.schedule(session, hold=True)
    if known is not None and known.same_slots(wanted):
        changed = known.late_hours != late_hours
        kept = Schedule(weekday, minute, wanted.timezone, week, late_hours, known.since)
        if changed and not dry_run:
            slots.set_lateness(session, late_hours)
            _audit(session, "schedule.set", actor, now, kept)
        return Change(kept, changed, next_slot(kept, now), ())
    waiting = slots.waiting(session)
    passed_over = () if known is None else _passed_over(session, known, wanted, now)
    if not dry_run:
        _abandon(session, waiting, now)
        slots.set_schedule(session, wanted, warned_at=now)
        _audit(session, "schedule.set", actor, now, wanted)
    abandoned = tuple(sorted({*_weeks(waiting), *passed_over}))
    return Change(wanted, changed=True, next=next_slot(wanted, now), abandoned=abandoned)


def clear_schedule(
    session: Session, *, actor: str, now: dt.datetime, dry_run: bool = False
) -> tuple[Schedule | None, tuple[Week, ...]]:
    """Send nothing by itself any more; the schedule that was, if any, and the weeks that waited at a slot."""
    known = slots.schedule(session, hold=True)
    abandoned = slots.waiting(session)
    if known is not None and not dry_run:
        _abandon(session, abandoned, now)
        slots.clear_schedule(session)
        _audit(session, "schedule.clear", actor, now, known)
    return known, _weeks(abandoned)


def skip(session: Session, week: Week, *, actor: str, now: dt.datetime, dry_run: bool = False) -> bool:
    """Whether the issue of `week` is from now on left out by the schedule, and was not until now.

    One whose slot was missed counts as left out, too. Raises NotFoundError without a schedule, ConflictError where the
    issue has a mailing, InvalidInputError for a week that was over before the schedule began.
    """
    schedule = _held(session)
    first = mailings.of_issue(session, str(week))
    if first is not None:
        raise ConflictError(
            f"issue {week} is mailing {first.id} already ({first.standing}); see: tydzen mailing status {first.id}"
        )
    rows = slots.of_week(session, week)
    planned = slot_of(schedule, week)
    if not rows and planned.at <= schedule.since:
        upcoming = next_slot(schedule, now).week
        raise InvalidInputError(f"week {week} is past, nothing will send it; the next to be sent is {upcoming}")
    if dry_run:
        return not slots.skipped(session, [week])
    changed = slots.skip(session, week)
    for row in rows:
        for was in (SlotState.WAITING, SlotState.MISSED):
            slots.decide(session, row.slot, SlotState.SKIPPED, now=now, reason=f"skipped by {actor}", was=was)
    if changed:
        audit.append(session, at=now, actor=actor, action="schedule.skip", subject=f"week:{week}")
    return changed


def unskip(session: Session, week: Week, *, actor: str, now: dt.datetime, dry_run: bool = False) -> bool:
    """Whether the issue of `week` goes out by itself again, and would not have until now.

    Raises NotFoundError without a schedule, ConflictError where its slot has passed.
    """
    schedule = _held(session)
    left_out = bool(slots.skipped(session, [week]))
    # Of a schedule that was moved the week may have had another slot before, which was left out or given up.
    slot = slot_of(schedule, week)
    decided = any(row.slot == slot and row.state is SlotState.SKIPPED for row in slots.of_week(session, week))
    if left_out and (decided or slot.at <= schedule.since):
        raise ConflictError(f"the slot of week {week} has passed; to send the issue: tydzen issue send {week}")
    if left_out and not dry_run:
        slots.unskip(session, week)
        audit.append(session, at=now, actor=actor, action="schedule.unskip", subject=f"week:{week}")
    return left_out


def show(session: Session, check: Check, *, now: dt.datetime, count: int) -> Overview:
    """The schedule, its next `count` slots with where their issues stand, and its latest ones."""
    schedule = slots.schedule(session)
    past = tuple(slots.latest(session, _PAST_SLOTS))
    if schedule is None:
        return Overview(None, (), past)
    until = max(now, schedule.since) + dt.timedelta(weeks=count + 1)
    coming = [slot for slot, _ in zip(slots_between(schedule, now, until), range(count), strict=False)]
    skipped = slots.skipped(session, [slot.week for slot in coming])
    ahead = (_ahead(session, check, slot, skip=slot.week in skipped) for slot in coming)
    return Overview(schedule, tuple(ahead), past)


def _ahead(session: Session, check: Check, slot: WeeklySlot, *, skip: bool) -> Ahead:
    mailing = mailings.of_issue(session, str(slot.week))
    if mailing is not None:
        return Ahead(slot, mailing.state.value, mailing=mailing.id)
    if skip:
        return Ahead(slot, "skipped")
    if issues.find_id(session, slot.week) is None:
        return Ahead(slot, "missing")
    blocking = tuple(map(str, check(session, str(slot.week))))
    return Ahead(slot, "blocked" if blocking else "ready", blocking)


def _held(session: Session) -> Schedule:
    """The schedule, which decides no slot until this transaction ends: what is answered here holds."""
    schedule = slots.schedule(session, hold=True)
    if schedule is None:
        raise NotFoundError('there is no schedule; set one: tydzen schedule set "Mon 09:00" --timezone Europe/Minsk')
    return schedule


def _own_timezone(session: Session) -> str:
    known = publication.find(session)
    if known is None:
        raise InvalidInputError("say in which time zone, such as --timezone Europe/Minsk")
    return known.timezone


def _passed_over(session: Session, known: Schedule, wanted: Schedule, now: dt.datetime) -> list[Week]:
    """The weeks that were due at slots of `known`, and whose slot of `wanted` is past: nothing would send them."""
    # A slot that has come may not be seen yet; one that is too late sends nothing in any case.
    after = max(slots.decided_until(session) or known.since, now - known.late)
    due = [slot.week for slot in slots_between(known, after, now + _FARTHEST_MOVE)]
    left_out = slots.skipped(session, due)
    return [
        week
        for week in due
        if slot_of(wanted, week).at <= now and week not in left_out and mailings.of_issue(session, str(week)) is None
    ]


def _abandon(session: Session, waiting: Sequence[SlotRow], now: dt.datetime) -> None:
    for row in waiting:
        slots.decide(session, row.slot, SlotState.SKIPPED, now=now, reason=_CHANGED)


def _weeks(rows: Sequence[SlotRow]) -> tuple[Week, ...]:
    return tuple(row.slot.week for row in rows)


def _audit(session: Session, action: str, actor: str, now: dt.datetime, schedule: Schedule) -> None:
    details = {
        "when": schedule.written,
        "timezone": schedule.timezone,
        "week": schedule.week.value,
        "late_hours": schedule.late_hours,
    }
    audit.append(session, at=now, actor=actor, action=action, subject="schedule", details=details)
