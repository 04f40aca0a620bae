"""Valkey is worthless: whatever becomes of it in mid-run costs time and nothing else, and the rate is never exceeded."""

from __future__ import annotations

import itertools
import time

import pytest

from service.clock import SystemClock
from service.delivery.plan import Planner
from service.delivery.send import GATE_SECONDS
from service.pace.bucket import BURST_SECONDS
from service.queue import PLAN_MAILING, SEND_BATCH, SEND_NOTICE, CeleryBell
from service.store import tables
from tests.chaos.run import hurried
from tests.chaos.test_faults import is_sent, url_of
from tests.installation import audit, installed
from tests.smtp_sink import Rule
from tests.unit.delivery.parts import PRESS

pytestmark = pytest.mark.slow


def most_within(made, seconds):
    """The most letters that the relay took within any time of that length."""
    times = sorted(entry.at for entry in made.sink.entries())
    found, first = 0, 0
    for last, at in enumerate(times):
        while at - times[first] > seconds:
            first += 1
        found = max(found, last - first + 1)
    return found


def keeps_to(rate, made):
    """Whether the relay never got more letters than the rate allows, over whatever time.

    Besides what is due in that time, there may come what a bucket keeps while nobody asks, and letters that had their
    tokens before, for as long as their gates were good. Over four seconds that is far from twice the rate.
    """
    more = BURST_SECONDS + GATE_SECONDS
    found = {seconds: most_within(made, seconds) for seconds in (1, 2, 4, 6)}
    too_many = {seconds: most for seconds, most in found.items() if most > rate * (seconds + more)}
    assert not too_many, f"at {rate} a second there came, by seconds, {found}"


def flush(made):
    made.valkey.flushall()


def refuse_writes(made):
    """As a replica of nobody does, for two seconds."""
    made.valkey.command("REPLICAOF", "127.0.0.1", "1")
    time.sleep(2)
    made.valkey.command("REPLICAOF", "NO", "ONE")


def have_no_memory(made):
    made.valkey.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    made.valkey.command("CONFIG", "SET", "maxmemory", "1")
    time.sleep(2)
    made.valkey.command("CONFIG", "SET", "maxmemory", "0")


def die_and_come_back_empty(made):
    made.valkey.kill()
    made.valkey.start()


def be_away(made):
    made.valkey.kill()
    time.sleep(4)
    made.valkey.start()


def freeze(made):
    made.valkey.freeze()
    time.sleep(3)
    made.valkey.thaw()


@pytest.mark.parametrize(
    "deeds",
    [
        pytest.param((flush, refuse_writes, die_and_come_back_empty), id="short"),
        pytest.param(
            (flush, refuse_writes, have_no_memory, die_and_come_back_empty, be_away, freeze, flush),
            id="long",
            marks=pytest.mark.long,
        ),
    ],
)
def test_whatever_becomes_of_valkey_costs_only_time(postgresql_database, tmp_path, deeds):
    rate, apart = 80, 120
    readers = apart * (len(deeds) + 1)
    with installed(tmp_path / "run", url_of(postgresql_database), own_process=True, rate=rate, batch_size=50) as made:
        made.fill(readers)
        made.start_worker(concurrency=3)
        mailing = made.send()
        with hurried(made):
            made.start_sweeps()
            for number, deed in enumerate(deeds):
                due = apart * number + apart // 2
                made.wait_for(lambda due=due: made.taken() >= due, 90, f"{due} before {deed.__name__}")
                deed(made)
            made.wait_for(lambda: is_sent(made, mailing), 90)
        found = audit(made, mailing)
        found.complain()
        assert found.uncertain == 0
        assert found.taken == readers
        keeps_to(rate, made)
        # A bucket that was forgotten starts empty, and letters that had their tokens may come together.
        assert most_within(made, 1) <= 2 * rate


@pytest.mark.long
@pytest.mark.parametrize("rate", [40, 0], ids=["at a rate", "as fast as it goes"])
def test_after_a_minute_and_a_half_without_valkey_mail_goes_on_within_half_a_minute(
    postgresql_database, tmp_path, rate
):
    # Without a rate what a process has begun, and the hints that it has already, bring hundreds of letters yet.
    readers = 400 if rate else 2000
    folder, url = tmp_path / "run", url_of(postgresql_database)
    rules = [Rule("DOT", delay=0.2)]
    with installed(folder, url, rules=rules, own_process=True, rate=rate, batch_size=30, connections=1) as made:
        made.fill(readers)
        made.start_worker(concurrency=2)
        mailing = made.send()
        # Nothing is hurried here: the sweep beside the worker, its waits and those of Celery are as they always are.
        made.wait_for(lambda: made.taken() > 60, 90)
        made.valkey.kill()
        time.sleep(90)
        left = readers - made.taken()
        assert left > 100
        made.valkey.start()
        back = time.monotonic()
        made.wait_for(lambda: readers - made.taken() <= left - 30, 60)
        assert time.monotonic() - back < 30
        made.wait_for(lambda: is_sent(made, mailing), 180)
        found = audit(made, mailing)
        found.complain()
        assert found.uncertain == 0
        assert found.taken == readers
        if rate:
            keeps_to(rate, made)


def test_a_valkey_that_forgets_everything_again_and_again_never_raises_the_rate(postgresql_database, tmp_path):
    rate, readers = 40, 400
    with installed(tmp_path / "run", url_of(postgresql_database), own_process=True, rate=rate, batch_size=100) as made:
        made.fill(readers)
        made.start_worker(concurrency=4)
        mailing = made.send()
        with hurried(made):
            made.start_sweeps()
            made.wait_for(made.taken, 90)

            def sent():
                flush(made)
                time.sleep(0.2)
                return is_sent(made, mailing)

            made.wait_for(sent, 90)
        found = audit(made, mailing)
        found.complain()
        assert found.taken == readers
        keeps_to(rate, made)


def test_what_was_rung_for_while_valkey_was_away_is_rung_for_again_once_it_is_back(postgresql_database, tmp_path):
    with installed(tmp_path / "run", url_of(postgresql_database), own_process=True) as made:
        made.fill(30)
        worker = made.start_worker(concurrency=2)
        made.wait_for(worker.sweeps, 60)
        made.valkey.kill()
        mailing = made.send()
        planner = Planner(made.database, PRESS, made._bell, SystemClock(), 0.0, batch_limit=1000)
        assert planner.plan(mailing)
        # Nothing is in hand, and all there is was rung for in vain. Where that counts, it counts for an hour from now on.
        quiet = tables.batches.c.rung_at > 0
        with made.database.begin() as session:
            later = tables.batches.c.rung_at + 3_600_000
            session.execute(tables.batches.update().where(quiet).values(rung_at=later))
        made.valkey.start()
        made.wait_for(lambda: is_sent(made, mailing), 60)
        found = audit(made, mailing)
        found.complain()
        assert found.taken == 30


@pytest.mark.parametrize("hints", [120, pytest.param(10_000, marks=pytest.mark.long)])
def test_stale_and_forged_hints_have_no_effect(postgresql_database, tmp_path, hints):
    with installed(tmp_path / "run", url_of(postgresql_database), own_process=True, batch_size=40) as made:
        made.fill(200)
        worker = made.start_worker(concurrency=3)
        first = made.send(readers=made.fill(40, prefix="first"))
        made.wait_until_sent(first, 60)
        made.fill(0, week="2019-W23")
        second = made.send("2019-W23")
        jobs = itertools.cycle(
            [
                (SEND_BATCH, (1,)),  # closed
                (SEND_BATCH, (2,)),  # perhaps in hand
                (SEND_BATCH, (987654321,)),
                (SEND_BATCH, (-1,)),
                (SEND_BATCH, ("seven",)),
                (SEND_BATCH, ()),
                (SEND_NOTICE, (5,)),
                (SEND_NOTICE, ("{{7*7}}",)),
                (PLAN_MAILING, (first,)),
                (PLAN_MAILING, (second,)),
                (PLAN_MAILING, (2**70,)),
                ("tydzen.no_such_task", (1,)),
            ]
        )
        bell: CeleryBell = made._bell
        for job, ids in itertools.islice(jobs, hints):
            bell.ring(job, *ids)
        for forged in ("this is no task", "{}", "[1]", "7", "[" * 100_000):
            made.valkey.command("LPUSH", "bulk", forged)
        with hurried(made):
            made.start_sweeps()
            made.wait_for(lambda: is_sent(made, second), 60 + hints / 20)
        for mailing in (first, second):
            found = audit(made, mailing, only="first" if mailing == first else "reader")
            assert not found.twice
        assert worker.alive
        states = made.status(second).counts
        assert (states.accepted, states.planned) == (240, 240)
        assert made.taken() == 280
