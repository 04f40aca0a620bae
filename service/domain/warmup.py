"""Warm-up: how many letters a new relay may let out on each day, until the world knows it."""

from __future__ import annotations

import datetime as dt

# Doubled, about, each day: what receivers of bulk mail ask of an address that they have never seen.
STEPS = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)


def warm_up_day(first: dt.date, day: dt.date) -> int | None:
    """Which day of the warm-up that began on `first` it is, from 1; None once it is over. Before, it is the first."""
    number = max(0, (day - first).days) + 1
    return number if number <= len(STEPS) else None


def warm_up_cap(first: dt.date, day: dt.date) -> int | None:
    """Letters that may be let out on `day` (UTC) at the most; None once the warm-up is over."""
    number = warm_up_day(first, day)
    return None if number is None else STEPS[number - 1]
