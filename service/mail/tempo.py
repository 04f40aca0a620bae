"""How long letters take on one session."""

from __future__ import annotations

from collections.abc import Callable, Iterable

_SOON = 0.5  # seconds within which a letter should leave the queue: half the life of its gate
_UNKNOWN = 0.6  # seconds, on a session that has not sent a letter yet: it gets no more than one at first
_WEIGHT = 0.1
_SLOW = 0.5  # seconds
_SLOWER = 4


class Tempo:
    """A running mean of the seconds between one letter's end and the next's, by the clock `now`."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._mark = now()
        self._mean = _UNKNOWN

    def start(self) -> None:
        """The first letter after a pause begins."""
        self._mark = self._now()

    def beat(self) -> None:
        """A letter has ended."""
        now = self._now()
        weight = 1.0 if self._mean == _UNKNOWN else _WEIGHT
        self._mean += weight * (now - self._mark - self._mean)
        self._mark = now

    @property
    def mean(self) -> float:
        """What a letter takes here, in seconds."""
        return self._mean

    @property
    def since(self) -> float:
        """When the last letter ended, or the first began: the present one has been the first in line since."""
        return self._mark

    def waited(self) -> float:
        """Seconds since then: what the present one has taken so far."""
        return self._now() - self._mark

    def seconds(self, *, busy: bool) -> float:
        """What the next letter will probably take; of a busy session no less than the present one has taken so far."""
        return max(self._mean, self.waited()) if busy else self._mean

    def letters_soon(self, *, busy: bool) -> int:
        """How many more letters will probably be taken up before their gates are half over."""
        return int(_SOON / max(self.seconds(busy=busy), 1e-6))


def patience(tempos: Iterable[Tempo]) -> float:
    """Seconds after which a letter takes long: half a second, or four times what it takes on the quickest session."""
    return max(_SLOW, _SLOWER * min((tempo.mean for tempo in tempos), default=0.0))
