"""When a deferred delivery is tried again, and when it is given up."""

from __future__ import annotations

import datetime as dt

SCHEDULE = tuple(dt.timedelta(minutes=minutes) for minutes in (5, 15, 30, 60, 120, 240))  # the last one repeats
JITTER = 0.2  # each wait is shortened or lengthened by up to a fifth, so that a refused batch does not return as one
GIVE_UP_AFTER = dt.timedelta(hours=48)


def next_attempt(first_at: dt.datetime, attempts: int, now: dt.datetime, unit_random: float) -> dt.datetime | None:
    """The time of the next attempt, or None when the delivery has expired.

    `first_at` is the first attempt, `attempts` how many were made so far (at least 1), `unit_random` a number from
    0 up to 1 drawn by the caller. No attempt is planned later than 48 hours after the first.
    """
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, not {attempts}")
    wait = SCHEDULE[min(attempts, len(SCHEDULE)) - 1] * (1 - JITTER + 2 * JITTER * unit_random)
    due = now + wait
    return due if due <= first_at + GIVE_UP_AFTER else None
