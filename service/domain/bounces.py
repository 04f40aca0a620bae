"""When a mailbox that puts mail off, issue after issue, counts as gone: soft refusals, scored one a day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

# Three weekly issues at the least, so that nobody is sent away for one holiday's full mailbox or one bad week of a
# provider; a reader whom no issue reached in that time misses nothing by it.
DAYS = 3
MAILINGS = 3
SPAN = dt.timedelta(days=14)
WINDOW = dt.timedelta(days=90)


@dataclass(frozen=True, slots=True)
class SoftRefusal:
    """A day (UTC) on which a reader's mailbox refused a mailing softly: full, disabled, or for no stated reason."""

    day: dt.date
    mailing: int


def standing(refusals: Iterable[SoftRefusal], *, accepted_on: dt.date | None, today: dt.date) -> list[SoftRefusal]:
    """Those that still count, oldest first: within the last 90 days, and after the day of the last acceptance."""
    counted = (
        one for one in refusals if today - WINDOW <= one.day <= today and (accepted_on is None or one.day > accepted_on)
    )
    return sorted(counted, key=lambda one: (one.day, one.mailing))


def is_given_up(refusals: Iterable[SoftRefusal], *, accepted_on: dt.date | None, today: dt.date) -> bool:
    """Whether the mailbox counts as gone.

    That is after soft refusals on 3 different days of 3 different mailings, 14 days or more from the first to the last,
    all within 90 days, with nothing accepted since the first of them.
    """
    counted = standing(refusals, accepted_on=accepted_on, today=today)
    if not counted:
        return False
    days, issues = {one.day for one in counted}, {one.mailing for one in counted}
    return len(days) >= DAYS and len(issues) >= MAILINGS and counted[-1].day - counted[0].day >= SPAN
