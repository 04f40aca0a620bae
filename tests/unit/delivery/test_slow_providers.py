"""A domain, or a mailing, that takes its time: all others are finished meanwhile, in one process as well."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

import pytest
import sqlalchemy as sa

from service.delivery import control, progress, release
from service.delivery.recovery import Recovery
from service.domain.limits import INSTALLATION, Limit, provider_scope, relay_scope
from service.domain.weeks import Week
from service.pace.bucket import ValkeyPace
from service.store import gate, issues, limits, mailings, parting, subscribers, tables
from service.store.instants import stored
from service.store.provider_keys import provider_key
from tests.factories import MADE_AT, add_readers
from tests.fakes import reserve
from tests.installation import miscounted
from tests.smtp_sink import Rule, SmtpSink
from tests.unit.delivery.parts import Run
from tests.unit.delivery.worker import Clock, Worker
from tests.unit.render import samples

SLOW = "slow.test"


@pytest.fixture
def sink(tmp_path):
    with SmtpSink(tmp_path / "ledger") as made:
        yield made


def mailing(database, slow, *, others=270, batch_limit=100, slow_domain=SLOW):
    """A mailing to so many readers, some of them at a slow domain, in batches that mix them."""
    add_readers(database, slow, chains=("en",), domain=slow_domain, prefix="late")
    run = Run(database, readers=others, chains=("en",), batch_limit=batch_limit)
    run.addresses += [f"late{number}@{slow_domain}" for number in range(slow)]
    return run


def taken(sink, slow):
    return [entry for entry in sink.entries() if (f"@{SLOW}" in entry.recipient) is slow]


def work(worker, run, seconds, enough=lambda: False):
    """What a process does with all batches one after the other, as hints arrive; for at most so long.

    Where it is `enough` it goes on for another second, in which nothing more should happen.
    """
    started = time.monotonic()

    def stop():
        while time.monotonic() < started + seconds and run.state() != "sent":
            if enough():
                time.sleep(1)
                break
            time.sleep(0.05)
        worker.stop = True

    async def serve():
        while not worker.stop:
            for number in run.batch_ids():
                await worker.dispatcher.send_batch(number)
            await asyncio.sleep(0.05)
        await worker.lines.close()

    thread = threading.Thread(target=stop)
    thread.start()
    asyncio.run(serve())
    thread.join()
    worker.dispatcher.offload.close()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["RCPT", "DOT"])
def test_one_domain_in_a_tarpit_holds_up_nobody_else(sqlite_database, tmp_path, sink, point):
    run = mailing(sqlite_database, slow=30)
    # On a good day this takes less than half a second; the tarpit alone takes 90 seconds of one connection.
    sink.set_rules(Rule(point, delay=3, recipient=f"@{SLOW}"))
    ends = {}

    def look():
        while len(taken(sink, slow=False)) < 270 and time.monotonic() < started + 60:
            time.sleep(0.05)
        ends["others"] = time.monotonic() - started
        ends["slow"] = len(taken(sink, slow=True))
        sink.set_rules()

    started = time.monotonic()
    watcher = threading.Thread(target=look)
    watcher.start()
    work(Worker(run, tmp_path, sink, connections=4), run, 60)
    watcher.join()

    assert ends["others"] < 20
    assert ends["slow"] < 25
    assert sorted(entry.recipient for entry in sink.entries()) == sorted(run.addresses)
    assert run.counts() == {"accepted": 300}
    assert not miscounted(run.database, run.mailing)
    with run.database.read() as session:
        own = session.scalar(
            sa.select(sa.func.count()).select_from(tables.batches).where(tables.batches.c.provider.like("d-%"))
        )
    assert own >= 1


@pytest.mark.usefixtures("before_midnight")
def test_a_provider_with_a_limit_leaves_the_mixed_batch_and_keeps_to_it(database, tmp_path, sink):
    run = mailing(database, slow=10, others=60)
    with database.begin() as session:
        scope = provider_scope(provider_key(session.sealer, SLOW))
        limits.save(session, scope, Limit(per_day=3), now_ms=stored(run.now))
    work(Worker(run, tmp_path, sink), run, 60, enough=lambda: len(sink.entries()) >= 63)
    assert len(taken(sink, slow=False)) == 60
    assert len(taken(sink, slow=True)) == 3
    assert run.counts() == {"accepted": 63, "pending": 7}


def test_the_connections_of_a_domain_hold_from_the_first_letter_of_a_process_on(sqlite_database, tmp_path, sink):
    run = mailing(sqlite_database, slow=8, others=2)
    with run.database.begin() as session:
        scope = provider_scope(provider_key(session.sealer, SLOW))
        limits.save(session, scope, Limit(connections=1), now_ms=stored(run.now))
    assert Worker(run, tmp_path, sink, connections=4).send()
    (own,) = [number for number in run.batch_ids() if run.batch(number).provider]
    assert not taken(sink, slow=True)
    sink.set_rules(Rule("DOT", delay=0.2))
    # What its name is, no process knows before it has a letter in hand.
    assert Worker(run, tmp_path, sink, connections=4).send(own)
    instants = sorted(entry.at for entry in taken(sink, slow=True))
    assert len(instants) == 8
    assert min(later - one for one, later in pairwise(instants)) > 0.15


def test_the_connections_of_a_relay_and_of_a_provider_are_changed_while_it_runs(sqlite_database, tmp_path, sink):
    run = mailing(sqlite_database, slow=0, others=400, batch_limit=1000)
    sink.set_rules(Rule("DOT", delay=0.03))
    most = []

    def change():
        while len(sink.entries()) < 30:
            time.sleep(0.01)
        with run.database.begin() as session:
            limits.save(session, relay_scope(f"127.0.0.1:{sink.port}"), Limit(connections=1), now_ms=stored(run.now))
        time.sleep(2)
        most.append(len(sink.open_sessions))
        with run.database.begin() as session:
            limits.save(session, relay_scope(f"127.0.0.1:{sink.port}"), Limit(connections=6), now_ms=stored(run.now))
        deadline = time.monotonic() + 3
        while len(sink.open_sessions) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        most.append(len(sink.open_sessions))
        sink.set_rules()

    assert Worker(run, tmp_path, sink, connections=4).send(meanwhile=change)
    assert most == [1, 6]
    assert run.counts() == {"accepted": 400}


def test_a_mailing_with_a_slow_rate_of_its_own_holds_up_no_other_one(database, tmp_path, sink, valkey):
    run = Run(database, readers=60, chains=("en",), batch_limit=20)
    slow = run.batch_ids()
    week = "2019-W23"
    with database.begin() as session:
        issues.save(session, samples.issue(week=Week.parse(week)), MADE_AT)
        other = release.send(session, week, run.bell, lambda *_: [], actor="test", now=run.now)
        mailings.set_rate(session, run.mailing, 1.0)
    assert run.planner().plan(other)
    worker = Worker(run, tmp_path, sink)
    worker.dispatcher.pace = pace = ValkeyPace(valkey.url)
    held = set()

    def accepted():
        with database.read() as session:
            return sum(mailings.counts(session, other).values(), mailings.Counts()).accepted

    def look():
        give_up, quiet = time.monotonic() + 20, None
        while time.monotonic() < min(give_up, quiet or give_up):
            held.update(number for number in slow if run.batch(number).lease_until)
            if quiet is None and accepted() == 60:
                # Longer than it takes until another batch is looked for.
                quiet = time.monotonic() + 5
            time.sleep(0.1)
        worker.stop = True

    worker.send(slow[0], meanwhile=look)
    pace.close()
    assert accepted() == 60
    assert 4 < run.counts()["accepted"] < 30
    # It is one batch of the slow mailing that waits, and not all that there are.
    assert held == {slow[0]}


@pytest.mark.slow
def test_no_group_is_as_large_as_before_and_no_wait_as_long_once_a_rate_was_lowered(
    sqlite_database, tmp_path, sink, valkey
):
    run = Run(sqlite_database, readers=1600, chains=("en",), batch_limit=400)
    before, after, seconds = 100.0, 2.0, 10.0
    workers = [Worker(run, tmp_path, sink) for _ in range(4)]
    paces = [ValkeyPace(valkey.url) for _ in workers]
    for worker, pace in zip(workers, paces, strict=True):
        worker.dispatcher.pace = pace
    set_rate(run, before)
    threads = [
        threading.Thread(target=worker.send, args=(number,))
        for worker, number in zip(workers, run.batch_ids(), strict=True)
    ]
    for thread in threads:
        thread.start()
    while len(sink.entries()) < 300:
        time.sleep(0.05)
    set_rate(run, after)
    while any(worker.limits.rate(INSTALLATION) != after for worker in workers):
        time.sleep(0.05)
    # What had its tokens by then is on its way.
    time.sleep(1.0)
    since = time.time()
    time.sleep(seconds)
    for worker in workers:
        worker.stop = True
    for thread in threads:
        thread.join()
    for pace in paces:
        pace.close()
    instants = [entry.at for entry in sink.entries() if since <= entry.at < since + seconds]
    assert 0.6 * after * seconds <= len(instants) <= after * seconds + len(workers)
    # Each takes one at a time, and waits for it as long as the others' take that are before it.
    assert max(later - one for one, later in pairwise([since, *instants])) < (len(workers) + 1) / after


def test_tokens_of_a_rate_of_before_are_given_back_and_who_waited_behind_them_waits_no_longer(
    sqlite_database, tmp_path, sink, valkey
):
    run = Run(sqlite_database, readers=20)
    worker, other = Worker(run, tmp_path, sink), ValkeyPace(valkey.url)
    worker.dispatcher.pace = pace = ValkeyPace(valkey.url)
    scope, seen = INSTALLATION, {}
    set_rate(run, 1.0)
    since = time.monotonic()
    reserve(other, scope, 1.0, 30)

    def meanwhile():
        # The first letter of this process waits behind thirty of another one, which gives them back.
        while time.monotonic() + reserve(other, scope, 1.0, 0) < since + 30.5:
            assert time.monotonic() < since + 25
            time.sleep(0.05)
        began = time.monotonic()
        reserve(other, scope, 1.0, -30)
        while not sink.entries() and time.monotonic() < began + 20:
            time.sleep(0.05)
        seen["sent"] = time.monotonic() - began
        set_rate(run, 0.05)
        time.sleep(3)
        seen["wait"] = reserve(other, scope, 0.05, 0)
        set_rate(run, 0.04)
        time.sleep(3)
        # One token of the new rate, and none of those of before.
        seen["anew"] = reserve(other, scope, 0.04, 0)
        worker.stop = True

    worker.send(meanwhile=meanwhile)
    pace.close()
    other.close()
    assert seen["sent"] < 5
    assert 10 < seen["wait"] < 21
    assert seen["anew"] <= 25


@pytest.mark.parametrize("why", ["the mailing is paused", "the worker must stop"])
def test_tokens_of_a_run_that_ends_while_it_waits_for_them_are_given_back(sqlite_database, tmp_path, sink, valkey, why):
    run = Run(sqlite_database, readers=20)
    worker, other = Worker(run, tmp_path, sink, lease=3.0), ValkeyPace(valkey.url)
    worker.dispatcher.pace = pace = ValkeyPace(valkey.url)
    set_rate(run, 0.1)
    since = time.monotonic()
    reserve(other, INSTALLATION, 0.1, 30)

    def ends_at():
        return time.monotonic() + reserve(other, INSTALLATION, 0.1, 0) - since

    def meanwhile():
        while ends_at() < 305:
            assert time.monotonic() < since + 100
            time.sleep(0.05)
        if why == "the worker must stop":
            worker.stop = True
            return
        with run.database.begin() as session:
            control.pause(session, run.mailing, actor="test", now=run.now)

    worker.send(meanwhile=meanwhile)
    assert ends_at() < 305
    assert not sink.entries()
    pace.close()
    other.close()


def set_rate(run, rate):
    with run.database.begin() as session:
        limits.save(session, INSTALLATION, Limit(rate=rate), now_ms=stored(run.now))


def test_what_is_part_off_is_counted_and_joins_what_waits_already(database):
    run = Run(database, readers=10, batch_limit=5)
    claims = [run.claim(number) for number in run.batch_ids()]
    for claim in claims:
        ids = run.due(claim)
        with database.begin() as session:
            parting.part_off(session, claim, {"d-0123456789abcdef": ids[:2]})
    assert not miscounted(database, run.mailing)
    aside = [run.batch(number) for number in run.batch_ids() if run.batch(number).provider]
    assert [(one.provider, one.pending, one.chain) for one in aside] == [("d-0123456789abcdef", 4, "en")]
    for claim in claims:
        run.give_back(claim)
    assert not progress_is_over(run)


def progress_is_over(run):
    with run.database.begin() as session:
        return progress.finish(session, run.mailing, now=run.now)


def test_a_failure_in_one_of_two_runs_ends_both_and_mails_nobody_twice(sqlite_database, tmp_path, sink, monkeypatch):
    run = Run(sqlite_database, readers=200, chains=("en",), batch_limit=100)
    first, second = run.batch_ids()
    with run.database.read() as session:
        in_first = sa.select(tables.deliveries.c.subscriber_id).where(tables.deliveries.c.batch_id == first)
        ids = set(session.execute(in_first).scalars())
        held = {one: subscribers.find(session, one).id in ids for one in run.addresses}
    # One letter of the first takes so long that the second is taken up beside it.
    late = next(address for address, belongs in held.items() if belongs)
    sink.set_rules(Rule("DOT", delay=6, recipient=late), Rule("DOT", delay=0.02))
    passed = gate.pass_gate
    gates = []

    def breaks(session, claim, *arguments, **named):
        gates.append(claim.batch)
        if gates.count(second) == 2:
            raise ZeroDivisionError
        return passed(session, claim, *arguments, **named)

    monkeypatch.setattr(gate, "pass_gate", breaks)
    with pytest.raises(ZeroDivisionError):
        Worker(run, tmp_path, sink).send(first)
    assert second in gates
    Recovery(run.database, tmp_path, Clock(), 3600).settle_journals()
    assert set(run.counts()) == {"accepted", "pending"}
    assert run.counts()["accepted"] == len(sink.entries())
    assert not miscounted(run.database, run.mailing)

    monkeypatch.setattr(gate, "pass_gate", passed)
    sink.set_rules()
    for number in (first, second):
        Worker(run, tmp_path, sink).send(number)
    assert sorted(entry.recipient for entry in sink.entries()) == sorted(run.addresses)
    assert run.counts() == {"accepted": 200}


def test_a_cap_that_a_provider_gets_in_mid_run_holds_for_the_mixed_batch_in_hand(sqlite_database, tmp_path, sink):
    run = mailing(sqlite_database, slow=300, others=300, batch_limit=1000)
    sink.set_rules(Rule("DOT", delay=0.02))
    before = []

    def change():
        while len(sink.entries()) < 30:
            time.sleep(0.01)
        with run.database.begin() as session:
            scope = provider_scope(provider_key(session.sealer, SLOW))
            limits.save(session, scope, Limit(per_day=10), now_ms=stored(run.now))
        time.sleep(2.5)
        before.append(len(taken(sink, slow=True)))
        sink.set_rules()

    assert Worker(run, tmp_path, sink, connections=2).send(meanwhile=change)
    assert len(taken(sink, slow=False)) == 300
    assert len(taken(sink, slow=True)) <= before[0] + 10 < 200
