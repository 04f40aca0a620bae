"""The weekly schedule: one slot in every ISO week, at a local time, and the issue that goes out at it.

A local time that a clock change leaves out is moved forward by the length of the gap; of a local time that comes twice
the first one counts. So there is exactly one slot a week, in any zone.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from zoneinfo import ZoneInfo, available_timezones

from service.domain.errors import InvalidInputError
from service.domain.weeks import Week

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DEFAULT_LATE_HOURS = 6
# Below a week by a day: a slot is always decided before the next one comes.
MAX_LATE_HOURS = 144
# Nobody looks at the very instant of a slot, and a restart takes its time.
_PUNCTUAL = dt.timedelta(minutes=10)

_WHEN = re.compile(r"([A-Za-z]{3,9})[, ]\s*([0-9]{1,2}):([0-9]{2})")


class WeekMode(StrEnum):
    """Which week's issue goes out at a slot: the latest that has ended, or the one that is running."""

    ENDED = "ended"
    CURRENT = "current"


@dataclass(frozen=True, slots=True)
class WeeklySlot:
    """One slot: the instant, in UTC, and the week of the issue that goes out at it."""

    at: dt.datetime
    week: Week


@dataclass(frozen=True, slots=True)
class Schedule:
    """When an issue goes out by itself.

    `weekday` is 0 for Monday, `minute` counts from local midnight, `late_hours` is how long after its slot an issue may
    still go out; slots at or before `since` do not count.
    """

    weekday: int
    minute: int
    timezone: str
    week: WeekMode
    late_hours: int
    since: dt.datetime

    def __post_init__(self) -> None:
        if not 0 <= self.late_hours <= MAX_LATE_HOURS:
            raise InvalidInputError(f"{self.late_hours} hours late is not between 0 and {MAX_LATE_HOURS}")

    @property
    def zone(self) -> ZoneInfo:
        """The time zone's rules."""
        return ZoneInfo(self.timezone)

    @property
    def written(self) -> str:
        """The day and time as they are typed: `Mon 09:00`."""
        return f"{DAYS[self.weekday][:3]} {self.minute // 60:02d}:{self.minute % 60:02d}"

    @property
    def late(self) -> dt.timedelta:
        """How long after its slot an issue may still go out: a few minutes where `late_hours` is 0."""
        return max(dt.timedelta(hours=self.late_hours), _PUNCTUAL)

    def same_slots(self, other: Schedule) -> bool:
        """Whether both have the same slots for the same issues, whatever their lateness and beginning."""
        mine = (self.weekday, self.minute, self.timezone, self.week)
        return mine == (other.weekday, other.minute, other.timezone, other.week)


def parse_when(text: str) -> tuple[int, int]:
    """The weekday (0 = Monday) and the minute of the day written like `Mon 09:00` or `Monday 9:00`.

    Raises InvalidInputError naming what is wrong and how to write it.
    """
    match = _WHEN.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(f'"{text}" is not a weekday and a time; write it like "Mon 09:00"')
    days = [day for day, name in enumerate(DAYS) if name.lower().startswith(match[1].lower())]
    if not days:
        raise InvalidInputError(f'"{match[1]}" is not a weekday; write {", ".join(name[:3] for name in DAYS)}')
    hour, minute = int(match[2]), int(match[3])
    if hour > 23 or minute > 59:
        raise InvalidInputError(f'"{match[2]}:{match[3]}" is not a time of day; write it from 00:00 to 23:59')
    return days[0], hour * 60 + minute


def checked_timezone(name: str) -> str:
    """`name`, if it is an IANA time zone; raises InvalidInputError that suggests one."""
    known = available_timezones() - {"localtime", "Factory"}  # these mean something else on every machine
    if name in known:
        return name
    by_lower = {zone.lower(): zone for zone in known}
    close = difflib.get_close_matches(name.strip().lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[close[0]]}?" if close else "write an IANA name such as Europe/Minsk"
    raise InvalidInputError(f'time zone "{name}" is not known; {hint}')


def slot_of(schedule: Schedule, week: Week) -> WeeklySlot:
    """The slot at which the issue of `week` goes out."""
    calendar_week = week.shifted(1) if schedule.week is WeekMode.ENDED else week
    day = calendar_week.monday + dt.timedelta(days=schedule.weekday)
    hour, minute = divmod(schedule.minute, 60)
    # With fold=0, zoneinfo takes the first of two equal times, and reads one in a gap by the rules from before the
    # gap: that is as much later as the gap is long (PEP 495).
    local = dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=schedule.zone)
    return WeeklySlot(local.astimezone(dt.UTC), week)


def slots_between(schedule: Schedule, after: dt.datetime, until: dt.datetime) -> Iterator[WeeklySlot]:
    """The slots later than `after` and than `schedule.since`, up to `until` inclusive, oldest first."""
    start = max(after, schedule.since)
    # Two weeks back covers both the ended week and a zone's distance from UTC.
    week = Week.of(start.date()).shifted(-2)
    while True:
        slot = slot_of(schedule, week)
        if slot.at > until:
            return
        if slot.at > start:
            yield slot
        week = week.shifted(1)


def last_slot(schedule: Schedule, now: dt.datetime) -> WeeklySlot | None:
    """The latest slot that has come by `now`; None where the schedule has had none yet."""
    found = None
    for found in slots_between(schedule, now - dt.timedelta(days=15), now):  # noqa: B007  # the last one is wanted
        pass
    return found


def next_slot(schedule: Schedule, now: dt.datetime) -> WeeklySlot:
    """The first slot later than `now`."""
    return next(slots_between(schedule, now, max(now, schedule.since) + dt.timedelta(days=15)))
