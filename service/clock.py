"""The clock that is passed in, so that tests never sleep and no rule reads the time behind its caller's back."""

from __future__ import annotations

import datetime as dt
import time
from typing import Protocol

# So far apart two quartzes are a millisecond at the most; a step of the database's clock is known as soon.
_TOLD_EVERY_SECONDS = 10.0
# Where there is one: Linux.
_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class Clock(Protocol):
    """What time it is."""

    def now(self) -> dt.datetime:
        """The present instant, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> dt.datetime:
        """The present instant, aware, in UTC."""
        return dt.datetime.now(dt.UTC)


class CommonClock:
    """One clock for all hosts of an installation: it is told the database's time now and then, and counts on from it.

    What is due, what expires and which day it is must not hang on which host asks. Nothing is asked of anybody for
    `now`; until it was told the time, it goes by the machine's own.
    """

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        # The time that it was told, and when by a clock that never jumps; replaced as a whole, for other threads.
        self._told: tuple[dt.datetime, float] | None = None

    @property
    def stale(self) -> bool:
        """Whether it is time to tell it the time."""
        told = self._told
        return told is None or suspended_monotonic() - told[1] > _TOLD_EVERY_SECONDS

    def tell(self, now: dt.datetime) -> None:
        """Go by this instant, aware, in UTC, from now on."""
        self._told = now, suspended_monotonic()

    def now(self) -> dt.datetime:
        """The present instant, aware, in UTC."""
        told = self._told
        if told is None:
            return self._machine.now()
        instant, since = told
        return instant + dt.timedelta(seconds=suspended_monotonic() - since)


def suspended_monotonic() -> float:
    """Seconds of a clock that never jumps and also counts the time this machine was suspended.

    A send gate is good for one second of real time: after a suspend, `time.monotonic` would still call it fresh.
    """
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)
