"""The clock that is passed in, so that tests never sleep and no rule reads the time behind its caller's back."""

from __future__ import annotations

import datetime as dt
import time
from typing import Protocol


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


def suspended_monotonic() -> float:
    """Seconds of a clock that never jumps and also counts the time this machine was suspended.

    A send gate is good for one second of real time: after a suspend, `time.monotonic` would still call it fresh.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
