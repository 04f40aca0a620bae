"""The schedule and its slots: one row per slot, inserted once and decided once; and the weeks to leave out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.schedule import Schedule, WeeklySlot, WeekMode
from service.domain.weeks import Week
from service.store.database import Session
from service.store.instants import loaded, loaded_or_none, stored
from service.store.tables import schedules, skipped_weeks, slots

_ID = 1
_OURS = slots.c.schedule_id == _ID
_SELECT = sa.select(slots).where(_OURS)


class SlotState(StrEnum):
    """What became of a slot; `waiting` is the only state that is not final."""

    WAITING = "waiting"
    RELEASED = "released"
    SKIPPED = "skipped"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class SlotRow:
    """A slot that has come, and what became of it."""

    slot: WeeklySlot
    state: SlotState
    reason: str | None
    mailing: int | None
    decided_at: dt.datetime | None


def schedule(session: Session, *, hold: bool = False) -> Schedule | None:
    """The schedule, if any; with `hold`, nobody else changes it or decides a slot until this transaction ends."""
    statement = sa.select(schedules).where(schedules.c.id == _ID)
    if hold:
        # SQLite has one writer anyway and leaves the lock out.
        statement = statement.with_for_update()
    row = session.execute(statement).one_or_none()
    if row is None:
        return None
    return Schedule(row.weekday, row.minute, row.timezone, WeekMode(row.week), row.late_hours, loaded(row.since))


def set_schedule(session: Session, value: Schedule, *, warned_at: dt.datetime) -> None:
    """Write the schedule; warnings that were due by `warned_at` count as given."""
    row = {
        "weekday": value.weekday,
        "minute": value.minute,
        "timezone": value.timezone,
        "week": value.week.value,
        "late_hours": value.late_hours,
        "since": stored(value.since),
        "warned_at": stored(warned_at),
    }
    insert = postgresql.insert if session.postgresql else sqlite.insert
    statement = insert(schedules).values(id=_ID, **row)
    session.execute(statement.on_conflict_do_update(index_elements=[schedules.c.id], set_=row))


def set_lateness(session: Session, hours: int) -> None:
    """Change how late an issue may still go out, and nothing else."""
    session.execute(schedules.update().where(schedules.c.id == _ID).values(late_hours=hours))


def clear_schedule(session: Session) -> None:
    """Remove the schedule; what became of its slots stays."""
    session.execute(schedules.delete().where(schedules.c.id == _ID))


def mark_warned(session: Session, at: dt.datetime) -> bool:
    """Whether nobody has looked yet at what was to be warned of at that instant; now somebody has."""
    statement = schedules.update().where(schedules.c.id == _ID, schedules.c.warned_at < stored(at))
    return session.execute(statement.values(warned_at=stored(at))).rowcount == 1


def find(session: Session, at: dt.datetime) -> SlotRow | None:
    """The row of the slot at that instant, if the slot has come and was seen."""
    row = session.execute(_SELECT.where(slots.c.slot_at == stored(at))).one_or_none()
    return None if row is None else _row(row)


def latest(session: Session, limit: int) -> list[SlotRow]:
    """The slots that came last, the newest first."""
    return [_row(row) for row in session.execute(_SELECT.order_by(slots.c.slot_at.desc()).limit(limit))]


def of_week(session: Session, week: Week) -> list[SlotRow]:
    """The slots at which the issue of that week was to go out, the newest first: several where the schedule changed."""
    return [_row(row) for row in session.execute(_SELECT.where(slots.c.week == str(week)).order_by(slots.c.id.desc()))]


def waiting(session: Session) -> list[SlotRow]:
    """The slots that are not decided, the oldest first."""
    statement = _SELECT.where(slots.c.state == SlotState.WAITING.value).order_by(slots.c.slot_at)
    return [_row(row) for row in session.execute(statement)]


def decided_until(session: Session) -> dt.datetime | None:
    """The latest slot that is decided: those before it are, too."""
    statement = sa.select(sa.func.max(slots.c.slot_at))
    return loaded_or_none(session.scalar(statement.where(_OURS, slots.c.state != SlotState.WAITING.value)))


def enter(session: Session, slot: WeeklySlot) -> None:
    """Give the slot its row, waiting; one that has a row keeps it."""
    insert = postgresql.insert if session.postgresql else sqlite.insert
    statement = insert(slots).values(
        schedule_id=_ID, slot_at=stored(slot.at), week=str(slot.week), state=SlotState.WAITING.value
    )
    session.execute(statement.on_conflict_do_nothing())


def decide(
    session: Session,
    slot: WeeklySlot,
    state: SlotState,
    *,
    now: dt.datetime,
    reason: str | None = None,
    mailing: int | None = None,
    was: SlotState = SlotState.WAITING,
) -> bool:
    """Whether the slot was in state `was` until now and is in `state` from now on."""
    statement = slots.update().where(_OURS, slots.c.slot_at == stored(slot.at), slots.c.state == was.value)
    values: dict[str, Any] = {
        "state": state.value,
        "reason": reason,
        "mailing_id": mailing,
        "decided_at": stored(now),
    }
    return session.execute(statement.values(**values)).rowcount == 1


def keep_waiting(session: Session, slot: WeeklySlot, reason: str) -> None:
    """Note what the slot is waiting for."""
    statement = slots.update().where(
        _OURS,
        slots.c.slot_at == stored(slot.at),
        slots.c.state == SlotState.WAITING.value,
        slots.c.reason.is_distinct_from(reason),
    )
    session.execute(statement.values(reason=reason))


def skip(session: Session, week: Week) -> bool:
    """Whether the week is to be left out from now on, and was not until now."""
    insert = postgresql.insert if session.postgresql else sqlite.insert
    statement = insert(skipped_weeks).values(week=str(week)).on_conflict_do_nothing()
    return session.execute(statement.returning(skipped_weeks.c.week)).first() is not None


def unskip(session: Session, week: Week) -> bool:
    """Whether the week was to be left out until now, and is not any more."""
    return session.execute(skipped_weeks.delete().where(skipped_weeks.c.week == str(week))).rowcount == 1


def skipped(session: Session, weeks: Collection[Week]) -> frozenset[Week]:
    """Those of these weeks that are to be left out."""
    statement = sa.select(skipped_weeks.c.week).where(skipped_weeks.c.week.in_([str(week) for week in weeks]))
    return frozenset(Week.parse(row.week) for row in session.execute(statement))


def _row(row: Any) -> SlotRow:
    return SlotRow(
        WeeklySlot(loaded(row.slot_at), Week.parse(row.week)),
        SlotState(row.state),
        row.reason,
        row.mailing_id,
        loaded_or_none(row.decided_at),
    )
