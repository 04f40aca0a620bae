"""Stand-ins that keep the contracts of the real parts; tests/contract/ runs both through the same tests."""

from __future__ import annotations

from service.pace.bucket import BURST_SECONDS, PaceAwayError


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

    def heard(self, job: str) -> list:
        """The first id of every ring of that job, in order."""
        return [ids[0] for name, *ids in self.rung if name == job]


class FakePace:
    """Buckets by a clock that stands still until a test moves it; with `away`, nobody answers."""

    def __init__(self):
        self.now = 0.0
        self.away = False
        self._given: dict[str, tuple[float, float]] = {}
        self._outstanding: dict[str, float] = {}

    def reserve(self, bucket: str, rate: float, count: int) -> float:
        if self.away:
            raise PaceAwayError("away")
        if bucket in self._given:
            given, before = self._given[bucket]
            if given > self.now:
                given = self.now + (given - self.now) * before / rate
        else:
            given = self.now + self._outstanding.get(bucket, 0.0) / rate
        given = max(given, self.now - BURST_SECONDS) + count / rate
        self._given[bucket] = (given, rate)
        self._outstanding[bucket] = max(0.0, (given - self.now) * rate)
        return given - self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def forget(self) -> None:
        """What FLUSHALL does; who took tokens remembers how many were under way."""
        self._given.clear()
