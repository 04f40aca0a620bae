"""A whole host stands still, beyond its lease and beyond the time after which it counts as away, and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest

from tests.chaos.run import hurried
from tests.chaos.test_faults import holds_nothing, is_sent, journals, stands_still, url_of
from tests.chaos.test_scarcity import everybody_has_one
from tests.installation import installed, past_dot
from tests.smtp_sink import Rule

pytestmark = pytest.mark.long


def everything(worker):
    """All processes of that host."""
    return [worker.pid, *worker.children(), *worker.sweeps()]


def suspend(made, worker):
    """SIGSTOP for all of a host at once, with letters past their dots, and between two transactions."""
    for _ in range(100):
        pids = everything(worker)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        made.wait_for(lambda pids=pids: all(map(stands_still, pids)), 10)
        if any(past_dot(path) for pid in pids for path in journals(pid)) and holds_nothing(made):
            return pids
        go_on(pids)
        time.sleep(0.02)
    raise AssertionError("it is never outside a transaction with a letter past its dot")


def go_on(pids):
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_a_host_that_sleeps_until_it_counts_as_away_and_wakes_decides_itself_what_became_of_its_letters(
    postgresql_database, tmp_path
):
    readers = 900
    with installed(
        tmp_path / "run",
        url_of(postgresql_database),
        rules=[Rule("DOT", delay=0.05)],
        own_process=True,
        connections=3,
        batch_size=60,
        lease_seconds=5,
        host_away_minutes=1,
    ) as made:
        made.fill(readers)
        data = tmp_path / "second"
        data.mkdir()
        shutil.copy(tmp_path / "run" / "data" / "secret.key", data)
        made.start_worker(concurrency=2)
        sleeper = made.start_worker(concurrency=2, data_dir=data)
        made.wait_for(lambda: all(worker.sweeps() for worker in made.workers), 60)
        mailing = made.send()
        with hurried(made):
            made.start_sweeps()
            made.wait_for(lambda: made.taken() > 60 and any(map(journals, sleeper.children())), 60)
            pids = suspend(made, sleeper)
            began = time.monotonic()
            # The other host sends the rest; of what this one had in hand nobody else can know.
            made.wait_for(lambda: is_sent(made, mailing), 120)
            assert time.monotonic() - began > 55
            lost = made.status(mailing).counts.uncertain
            assert lost
            go_on(pids)
            # Which letters were not sent after all becomes known first, and the next sweep takes the mailing up again.
            made.wait_for(lambda: made.status(mailing).counts.accepted == readers and is_sent(made, mailing), 90)
        print(f"{lost} were uncertain while it slept for {time.monotonic() - began:.0f} s")
        everybody_has_one(made, mailing, readers)
