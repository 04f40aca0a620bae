"""A bad network before PostgreSQL, or none, in mid-run: whatever it does costs time, and leaves nothing uncertain."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from pathlib import Path

import pytest

from service.mail.letter import Timeouts
from service.store import Sealer
from tests.chaos.proxy import Trap
from tests.chaos.run import hurried
from tests.chaos.test_faults import is_sent, url_of
from tests.chaos.test_network import behind
from tests.chaos.test_scarcity import everybody_has_one, start_again, stop_at_once
from tests.conftest import KEYRING
from tests.installation import installed
from tests.servers import postgresql_server
from tests.smtp_sink import Rule

pytestmark = pytest.mark.slow

SLOW = [Rule("DOT", delay=0.02)]


@contextlib.contextmanager
def sending_behind(folder, url, readers, **settings):
    """Workers whose way to the database is the network's; the test's own sweeps go straight."""
    with installed(folder, url, rules=SLOW, own_process=True, batch_size=40, **settings) as made:
        made.fill(readers)
        straight = dict(made.environment)
        with behind(made, database=True) as network, hurried(made):
            proxied, made.environment = made.environment, straight
            made.start_sweeps()
            made.environment = proxied
            yield made, network.database


def until(made, more):
    """Wait until so many more have been sent."""
    due = made.taken() + more
    made.wait_for(lambda: made.taken() >= due, 60, f"nothing moves after {due - more}")


def test_a_database_that_is_slow_sliced_half_closed_and_reset_leaves_nothing_uncertain(postgresql_database, tmp_path):
    chance = random.Random(1)
    with sending_behind(tmp_path / "run", url_of(postgresql_database), 600) as (made, proxy):
        made.start_worker(concurrency=3)
        mailing = made.send()
        until(made, 20)
        weather = proxy.weather
        for latency in (0.02, 0.05):
            weather.latency = latency
            until(made, 40)
        weather.latency, weather.slice, weather.slice_up = 0.0, 5, 3
        until(made, 40)
        weather.slice = weather.slice_up = 0
        for _ in range(2):
            proxy.half_close()
            until(made, 40)
        for _ in range(8):
            time.sleep(chance.uniform(0.05, 0.6))
            proxy.reset()
        made.wait_for(lambda: is_sent(made, mailing), 90)
        everybody_has_one(made, mailing, 600)


@pytest.mark.long
def test_a_database_whose_connections_are_reset_at_random_for_a_minute_leaves_nothing_uncertain(
    postgresql_database, tmp_path
):
    chance = random.Random(2)
    with sending_behind(tmp_path / "run", url_of(postgresql_database), 3000, rate=50) as (made, proxy):
        for _ in range(2):
            made.start_worker(concurrency=3)
        mailing = made.send()
        until(made, 20)
        proxy.weather.latency = 0.01
        over = time.monotonic() + 60
        while time.monotonic() < over:
            time.sleep(chance.expovariate(3))
            chance.choice((proxy.reset, proxy.half_close))()
        made.wait_for(lambda: is_sent(made, mailing), 150)
        everybody_has_one(made, mailing, 3000)


# Longer than a lease; and longer than a server waits for a session that is silent within a transaction.
@pytest.mark.parametrize("seconds", [8, pytest.param(80, marks=pytest.mark.long)])
def test_a_host_whose_way_to_the_database_stalls_is_passed_over_and_mails_nobody_twice(
    postgresql_database, tmp_path, seconds
):
    with sending_behind(tmp_path / "run", url_of(postgresql_database), 900, lease_seconds=5, rate=100) as (made, proxy):
        sleeper = made.start_worker("-Q", "bulk", concurrency=2)
        data = tmp_path / "other"
        data.mkdir()
        shutil.copy(tmp_path / "run" / "data" / "secret.key", data)
        made.start_worker(concurrency=2, database_url=url_of(postgresql_database), data_dir=data)
        mailing = made.send()
        made.wait_for(lambda: made.taken() > 50 and proxy.connections > 2, 60)
        # One connection stops short of its commit, with all its locks; then all do, wherever they are.
        trap = Trap(b"COMMIT", "stall", seconds=seconds)
        proxy.set_trap(trap)
        made.wait_for(lambda: trap.sprung, 30, "nothing commits")
        proxy.weather.stalled = True
        silent = made.taken()
        time.sleep(seconds)
        # Whom the stalled host had not gated, the other has mailed; nobody waits longer than a minute for its locks.
        assert made.taken() > silent
        proxy.weather.stalled = False
        made.wait_for(lambda: is_sent(made, mailing), 90)
        everybody_has_one(made, mailing, 900)
        assert sleeper.alive


# As long as a lease and more: who claims a batch then does so by the time of the database that is back.
@pytest.mark.parametrize(("lease", "seconds"), [(5, 7), pytest.param(60, 75, marks=pytest.mark.long)])
def test_a_postgresql_that_is_stopped_for_longer_than_a_lease_leaves_nothing_uncertain(tmp_path, lease, seconds):
    class Folders:
        def getbasetemp(self):
            return tmp_path

    with (
        postgresql_server(Folders(), Sealer(KEYRING)) as server,
        installed(
            tmp_path / "run",
            server.create("away"),
            rules=SLOW,
            own_process=True,
            batch_size=40,
            lease_seconds=lease,
            # So that the server is stopped in mid-run, however late it is asked to.
            rate=100,
        ) as made,
    ):
        made.fill(400)
        for _ in range(2):
            made.start_worker(concurrency=2)
        mailing = made.send()
        made.wait_for(lambda: made.taken() > 60, 60)
        folder = stop_at_once(server)
        stopped = time.monotonic()
        time.sleep(2)
        taken = made.taken()
        assert taken < 400
        sessions = open_sessions(made)
        time.sleep(seconds - (time.monotonic() - stopped))
        if seconds > 2 * Timeouts().idle:
            # No relay is kept waiting for the database.
            assert sessions
            assert not open_sessions(made)
        # No dot without a gate: what was gated is written within a second, and then nothing.
        assert made.taken() == taken
        start_again(folder)
        with hurried(made):
            made.start_sweeps()
            made.wait_for(lambda: is_sent(made, mailing), 90)
        everybody_has_one(made, mailing, 400)


def open_sessions(made):
    """How many connections to the sink are established, by the kernel's list."""
    rows = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for _, remote, state in rows if state == "01" and int(remote.rpartition(":")[2], 16) == made.sink.port)
