import heapq

import pytest

from service.pace import bucket
from service.pace.bucket import BURST_SECONDS, PaceAwayError, ValkeyPace
from tests.fakes import reserve
from tests.servers import valkey_server


@pytest.mark.parametrize("tcp", [False, True])
def test_tokens_are_given_over_a_socket_and_over_a_port(tmp_path, tcp):
    with valkey_server(tmp_path / "v", tcp=tcp) as server:
        pace = ValkeyPace(server.url)
        first = reserve(pace, "b", 10, 10)
        second = reserve(pace, "b", 10, 10)
        assert second - first == pytest.approx(1, abs=0.3)
        pace.close()


def test_a_valkey_that_is_away_is_said_and_waited_for(valkey):
    pace = ValkeyPace(valkey.url)
    valkey.kill()
    with pytest.raises(PaceAwayError):
        reserve(pace, "b", 10, 1)
    valkey.start()
    assert reserve(pace, "b", 10, 1) <= 0.2
    pace.close()


class Clock:
    """What the buckets take for the module `time`."""

    now = 0.0

    def monotonic(self):
        return self.now


class Shared(ValkeyPace):
    """The pace of one process; the bucket is in this one, and counts how often it is asked."""

    given = 0.0
    calls = 0

    def __init__(self, clock):
        super().__init__("redis://127.0.0.1:1")
        self._clock = clock

    def _ask(self, rates, count, patience):
        ((name, rate),) = rates.items()
        Shared.given = max(Shared.given, self._clock.now - BURST_SECONDS) + count / rate
        Shared.calls += 1
        return {name: Shared.given - self._clock.now}


@pytest.mark.parametrize(
    ("processes", "rate", "group", "takes", "possible", "most_calls"),
    [
        (20, 1000, 5, 0.5, 200, 40),
        (50, 1000, 5, 0.25, 1000, 200),
        (20, 1000, 20, 0.4, 1000, 50),
        (4, 1000, 20, 0.01, 1000, 25),
        (1, 1000, 20, 0.001, 1000, 15),
        (1, 10_000, 350, 0.03, 10_000, 20),
    ],
)
def test_the_rate_is_reached_however_many_share_it(monkeypatch, processes, rate, group, takes, possible, most_calls):
    clock = Clock()
    monkeypatch.setattr(bucket, "time", clock)
    monkeypatch.setattr(Shared, "given", 0.0)
    monkeypatch.setattr(Shared, "calls", 0)
    seconds, good = 60, 0
    paces = [Shared(clock) for _ in range(processes)]
    due = [(0.013 * number, number) for number in range(processes)]
    while due[0][0] < seconds:
        clock.now, number = heapq.heappop(due)
        wait = max(0.0, reserve(paces[number], "installation", rate, group))
        good += group * (clock.now + wait < seconds)
        heapq.heappush(due, (clock.now + wait + takes, number))
    # And what is kept at first is not more than half a second's.
    assert 0.97 * possible <= good / seconds <= possible + rate * BURST_SECONDS / seconds
    assert Shared.calls / seconds <= 1.05 * most_calls
