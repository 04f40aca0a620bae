"""Idleness: whether a run has only waited for a while, so that another may use the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.clock import suspended_monotonic

IDLE_SECONDS = 2.0
# A domain in a tarpit lets a letter through now and then: that is waiting, too.
_SHARE = 0.9


@dataclass(slots=True)
class Waiting:
    """How long one run has had nothing to hand over, or no room for it: time that another batch may use.

    `for_mailing` says whether the last wait was for the rate of its mailing: another batch of that would wait, too.
    """

    for_mailing: bool = False
    _seconds: float = 0.0
    _since: float | None = None

    @property
    def seconds(self) -> float:
        """In all, until now."""
        return self._seconds + (0.0 if self._since is None else suspended_monotonic() - self._since)

    @contextmanager
    def counted(self, *, for_mailing: bool = False) -> Iterator[None]:
        """Count the time of the block."""
        self.for_mailing = for_mailing
        self._since = began = suspended_monotonic()
        try:
            yield
        finally:
            self._since = None
            self._seconds += suspended_monotonic() - began


@dataclass(slots=True)
class Idleness:
    """Looks at one run, now and then; `waited` says how many seconds it has waited in all."""

    waited: Callable[[], float]
    _looks: deque[tuple[float, float]] = field(default_factory=deque)

    def look(self, now: float) -> bool:
        """Whether the run has waited nearly all the time of the last two seconds; False in its first two."""
        waited = self.waited()
        while len(self._looks) > 1 and self._looks[1][0] <= now - IDLE_SECONDS:
            self._looks.popleft()
        self._looks.append((now, waited))
        since, before = self._looks[0]
        return now - since >= IDLE_SECONDS and waited - before >= _SHARE * (now - since)
