"""Stand-ins that keep the contracts of the real parts; tests/contract/ runs both through the same tests."""

from __future__ import annotations

from collections.abc import Mapping

from service.pace.bucket import BURST_SECONDS, FOR_EVER, PaceAwayError


class FakeBell:
    """Writes down what was rung; with `away`, it loses every hint, as a bell does whose broker is gone."""

    def __init__(self):
        self.rung: list[tuple] = []
        self.away = False

    def ring(self, job: str, *ids: int | str) -> bool:
        if self.away:
            return False
        self.rung.append((job, *ids))
        return True

    def patient(self) -> FakeBell:
        """Itself: it makes nobody wait."""
        return self

    def empty(self) -> bool:
        """Nobody takes up its hints; a test may forget them, as a broker does that is emptied."""
        return not self.away and not self.rung

    def heard(self, job: str) -> list:
        """The first id of every ring of that job, in order."""
        return [ids[0] for name, *ids in self.rung if name == job]


def reserve(pace, bucket, rate, count):
    """Tokens of one bucket; the seconds to wait for them."""
    return pace.reserve_all({bucket: rate}, count)[bucket]


class FakePace:
    """Buckets by a clock that stands still until a test moves it; with `away`, nobody answers."""

    def __init__(self):
        self.now = 0.0
        self.away = False
        self._given: dict[str, tuple[float, float]] = {}
        self._outstanding: dict[str, float] = {}

    def reserve_all(self, rates: Mapping[str, float], count: int, patience: float = FOR_EVER) -> dict[str, float]:
        if self.away:
            raise PaceAwayError("away")
        given = {bucket: self._given_with(bucket, rate, count) for bucket, rate in rates.items()}
        waits = {bucket: instant - self.now for bucket, (instant, _) in given.items()}
        for bucket, rate in rates.items():
            self._given.setdefault(bucket, (given[bucket][0] - max(count, 0) / rate, rate))
        if max(waits.values(), default=0.0) <= patience:
            self._given.update(given)
            self._outstanding.update({name: max(0.0, waits[name] * rate) for name, (_, rate) in given.items()})
        return waits

    def at_hand(self, rates: Mapping[str, float], count: int) -> None:
        """Takes nothing ahead."""
        return

    def _given_with(self, bucket: str, rate: float, count: int) -> tuple[float, float]:
        """Up to when tokens are given away once `count` more are, and at which rate they are."""
        step = count / rate
        if bucket in self._given:
            given, before = self._given[bucket]
            if count <= 0:
                step, rate = count / max(rate, before), before
            left = given - self.now
            if left > 0 and (before < rate or left > 10):
                given = self.now + left * before / rate
        else:
            given = self.now + self._outstanding.get(bucket, 0.0) / rate
        given = max(given, self.now - max(BURST_SECONDS, 1 / rate))
        return max(given + step, min(given, self.now)), rate

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def forget(self) -> None:
        """What FLUSHALL does; who took tokens remembers how many were under way."""
        self._given.clear()
