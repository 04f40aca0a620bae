"""A bad network before Valkey in mid-run: the mailing goes on within 90 seconds, and the rate is never exceeded."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from tests.chaos.run import hurried
from tests.chaos.test_database_network import until
from tests.chaos.test_faults import is_sent, url_of
from tests.chaos.test_network import behind
from tests.chaos.test_scarcity import everybody_has_one
from tests.chaos.test_valkey import keeps_to
from tests.installation import installed

pytestmark = pytest.mark.slow

RATE = 60
PROGRESS_SECONDS = 90
FAR_AWAY_SECONDS = 30


@contextlib.contextmanager
def sending_behind(folder, url, readers):
    """A mailing to so many at a rate, under way, with two processes whose way to Valkey is the network's."""
    with installed(folder, url, own_process=True, rate=RATE, batch_size=30) as made, behind(made) as network:
        made.fill(readers)
        made.start_worker(concurrency=2)
        mailing = made.send()
        made.wait_for(lambda: made.taken() > RATE // 2, 60)
        yield made, mailing, network.valkey


def test_a_valkey_that_is_slow_sliced_half_closed_stalled_and_reset_costs_only_time(postgresql_database, tmp_path):
    with sending_behind(tmp_path / "run", url_of(postgresql_database), 600) as (made, mailing, proxy), hurried(made):
        made.start_sweeps()
        weather = proxy.weather
        weather.latency = 0.05
        until(made, RATE)
        weather.latency, weather.slice, weather.slice_up = 0.0, 1, 1
        until(made, RATE)
        weather.slice = weather.slice_up = 0
        # Longer than a worker waits for an answer, and than a caller that rings.
        weather.stalled = True
        time.sleep(4)
        weather.stalled = False
        until(made, RATE)
        for deed in (proxy.half_close, proxy.reset, proxy.half_close, proxy.reset):
            deed()
            until(made, RATE // 2)
        made.wait_for(lambda: is_sent(made, mailing), PROGRESS_SECONDS)
        everybody_has_one(made, mailing, 600)
        keeps_to(RATE, made)


def stall(proxy):
    proxy.weather.stalled = True
    time.sleep(40)
    proxy.weather.stalled = False


# With no hurry: what is promised is progress, however slow, by what the workers do of themselves.
@pytest.mark.long
@pytest.mark.parametrize(
    ("deed", "every", "latency", "size", "within"),
    [
        pytest.param("reset", 2.5, 0.0, 0, PROGRESS_SECONDS, id="reset"),
        pytest.param("half_close", 2.0, 0.0, 0, PROGRESS_SECONDS, id="half-closed"),
        pytest.param("reset", 3.0, 0.03, 3, PROGRESS_SECONDS, id="slow-sliced-and-reset"),
        # A round trip takes longer than a caller that rings may wait.
        pytest.param("reset", 3.0, 0.1, 0, FAR_AWAY_SECONDS, id="far-away-and-reset"),
        pytest.param(stall, 10.0, 0.0, 0, PROGRESS_SECONDS, id="stalled-for-forty-seconds"),
    ],
)
def test_whatever_the_network_to_valkey_does_for_minutes_there_is_progress_each_ninety_seconds(
    postgresql_database, tmp_path, deed, every, latency, size, within
):
    with sending_behind(tmp_path / "run", url_of(postgresql_database), 1500) as (made, mailing, proxy):
        over = threading.Event()
        proxy.weather.latency, proxy.weather.slice, proxy.weather.slice_up = latency, size, size

        def meddle():
            while not over.wait(every):
                deed(proxy) if callable(deed) else getattr(proxy, deed)()

        thread = threading.Thread(target=meddle)
        thread.start()
        try:
            seen, since, longest = made.taken(), time.monotonic(), 0.0
            while not is_sent(made, mailing):
                made.wait_for(lambda seen=seen: made.taken() > seen or is_sent(made, mailing), PROGRESS_SECONDS)
                longest = max(longest, time.monotonic() - since)
                seen, since = made.taken(), time.monotonic()
        finally:
            over.set()
            thread.join()
        assert longest <= within
        everybody_has_one(made, mailing, 1500)
        keeps_to(RATE, made)
