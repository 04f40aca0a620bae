"""A bad network before the relay, the database and Valkey, with real workers behind it."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.proxy import Proxy, Trap
from tests.chaos.run import hurried, time_passes
from tests.chaos.test_faults import is_sent, url_of
from tests.installation import audit, installed
from tests.smtp_sink import Rule

pytestmark = pytest.mark.slow

DOT = b"\r\n.\r\n"


@dataclass
class Network:
    """The proxies that an installation's workers go through."""

    smtp: Proxy
    valkey: Proxy
    database: Proxy | None


@contextlib.contextmanager
def behind(made, *, database=False, host="127.0.0.1"):
    """Have the workers of an installation go through proxies; the test itself goes straight."""
    with contextlib.ExitStack() as stack:
        smtp = stack.enter_context(Proxy(("127.0.0.1", made.sink.port), host=host))
        valkey = stack.enter_context(Proxy(Path(made.valkey.url.partition("//")[2].partition("?")[0]), host=host))
        made.environment["TYDZEN_REDIS_URL"] = f"redis://{host}:{valkey.port}/0"
        options = made.environment["TYDZEN_SMTP_URL"].partition("?")[2]
        made.environment["TYDZEN_SMTP_URL"] = f"smtp://{host}:{smtp.port}?{options}"
        behind_it = None
        if database:
            url = made.database.url
            path = Path(url.query["host"]) / f".s.PGSQL.{url.port or 5432}"
            behind_it = stack.enter_context(Proxy(path, host=host))
            changed = url.set(host=host, port=behind_it.port, query={})
            made.environment["TYDZEN_DATABASE_URL"] = changed.render_as_string(hide_password=False)
        yield Network(smtp, valkey, behind_it)


def test_a_bad_network_to_the_relay_loses_nobody_and_mails_nobody_twice(postgresql_database, tmp_path):
    with (
        installed(
            tmp_path / "run",
            url_of(postgresql_database),
            rules=[Rule("DOT", delay=0.01)],
            own_process=True,
            hide={"CHUNKING"},
            connections=3,
            batch_size=50,
        ) as made,
        behind(made) as network,
    ):
        made.fill(600)
        made.start_worker(concurrency=3)
        mailing = made.send()
        smtp = network.smtp
        with hurried(made):
            made.start_sweeps()
            traps = [Trap(b"MAIL FROM", "reset", 2), Trap(b"DATA\r\n", "drop", 2)]
            after_dot = [Trap(DOT, "reset", 2), Trap(DOT, "reset-after", 2), Trap(DOT, "half-after", 2)]
            for due, *now in [(50, *traps), *((100 + 50 * n, trap) for n, trap in enumerate(after_dot))]:
                made.wait_for(lambda due=due: made.taken() >= due, 60)
                smtp.set_trap(*now)
                made.wait_for(
                    lambda now=now: all(trap.sprung == trap.times for trap in now), 60, f"{now} did not spring"
                )
            smtp.set_trap()
            smtp.weather.slice, smtp.weather.slice_up = 1, 500
            made.wait_for(lambda: made.taken() >= 300, 60)
            smtp.weather.slice, smtp.weather.slice_up, smtp.weather.latency = 0, 0, 0.02
            made.wait_for(lambda: made.taken() >= 350, 60)
            smtp.weather.stalled = True
            time.sleep(3)
            smtp.weather.stalled = False
            # Of a reply before the dot, it is that letter's deferral for five minutes.
            smtp.weather.corrupt = 1
            made.wait_for(lambda: time_passes(made) or is_sent(made, mailing), 90)
        found = audit(made, mailing)
        found.complain()
        # An envelope travels with the dot of the letter before it: one for each trap, one for the wrong octet.
        assert 0 < found.uncertain <= sum(trap.times for trap in (*traps, *after_dot)) + 1


def test_connections_to_the_database_that_break_at_gate_and_commit_leave_nothing_uncertain(
    postgresql_database, tmp_path
):
    with (
        installed(
            tmp_path / "run",
            url_of(postgresql_database),
            rules=[Rule("DOT", delay=0.01)],
            own_process=True,
            batch_size=40,
        ) as made,
        behind(made, database=True) as network,
    ):
        made.fill(600)
        made.start_worker(concurrency=3)
        mailing = made.send()
        made.wait_for(lambda: made.taken() > 20, 60)
        # A gate that never came, one whose answer was lost; a commit that never came, one of which nobody knows.
        traps = [
            Trap(b"UPDATE deliveries d SET state = 1", "reset", 2),
            Trap(b"UPDATE deliveries d SET state = 1", "reset-after", 2),
            Trap(b"COMMIT", "reset", 5, skip=2),
            Trap(b"COMMIT", "reset-after", 5, skip=4),
        ]
        network.database.set_trap(*traps)
        # A connection says its gate in words once, then by the name of the statement: new ones have to say it again.
        network.database.reset()
        with hurried(made):
            made.start_sweeps()
            made.wait_for(lambda: is_sent(made, mailing), 120)
        found = audit(made, mailing)
        found.complain()
        assert found.uncertain == 0
        assert found.taken == 600
        assert [trap.sprung for trap in traps] == [2, 2, 5, 5], traps


@pytest.mark.long
def test_a_connection_to_valkey_that_is_reset_each_two_or_three_seconds_only_costs_time(postgresql_database, tmp_path):
    rate, readers, every = 60, 1200, 2.5
    with (
        installed(tmp_path / "run", url_of(postgresql_database), own_process=True, rate=rate, batch_size=60) as made,
        behind(made) as network,
    ):
        made.fill(readers)
        made.start_worker(concurrency=2)
        mailing = made.send()
        over = threading.Event()

        def reset():
            while not over.wait(every):
                network.valkey.reset()

        thread = threading.Thread(target=reset)
        thread.start()
        try:
            # With no hurry: the sweep of the worker itself finds what the lost hints would have told.
            seen = -1
            while not is_sent(made, mailing):
                # The promise is progress, however slow: the sweep finds within a minute what the lost hints would tell.
                made.wait_for(lambda seen=seen: made.taken() > seen or is_sent(made, mailing), 90)
                seen = made.taken()
        finally:
            over.set()
            thread.join()
        found = audit(made, mailing)
        found.complain()
        assert found.uncertain == 0
        assert found.taken == readers
