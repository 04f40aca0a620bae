"""One batch through a real session with a sink, while the database, the pace and the lease misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import re
import threading
import time

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from service import faults
from service.delivery import editions, progress
from service.delivery.account import Account
from service.delivery.exposition import exposition
from service.delivery.limits import Limits
from service.delivery.meter import Meter
from service.delivery.offload import Offload
from service.delivery.recovery import Recovery
from service.domain.delivery import DeliveryState
from service.domain.keys import Keyring
from service.domain.replies import Phase, ReplyClass
from service.mail.letter import Outcome
from service.store import DatabaseAwayError, Sealer, batches, gate, subscribers, tables
from service.store.instants import stored
from tests.conftest import KEYRING
from tests.installation import miscounted
from tests.smtp_sink import Rule, SmtpSink
from tests.unit.delivery.parts import PRESS, WEEK, Run, result
from tests.unit.delivery.worker import Clock, Worker


@pytest.fixture
def sink(tmp_path):
    with SmtpSink(tmp_path / "ledger") as made:
        yield made


def recipients(sink):
    return sorted(entry.recipient for entry in sink.entries())


def wait_for(what, seconds=60):
    give_up = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_batch_goes_out_and_the_mailing_is_sent(database, tmp_path, sink):
    run = Run(database, readers=20)
    assert Worker(run, tmp_path, sink).send()
    assert recipients(sink) == sorted(run.addresses)
    assert run.counts() == {"accepted": 20}
    assert run.state() == "sent"
    assert not list((tmp_path / "journals").glob("*.journal"))


def test_a_batch_is_one_line_of_the_log_whatever_becomes_of_its_letters(sqlite_database, tmp_path, sink):
    run = Run(sqlite_database, readers=200)
    sink.settings.hide = frozenset({"CHUNKING"})
    sink.set_rules(
        Rule("RCPT", "550 5.1.1 no such user", recipient="reader1@"),
        Rule("RCPT", "552 5.2.2 mailbox full", recipient="2@"),
        Rule("RCPT", "451 4.7.1 later", recipient="3@"),
        Rule("DATA", "554 5.6.0 not this", recipient="4@"),
        Rule("DOT", "450 4.2.1 busy", recipient="5@"),
    )
    with structlog.testing.capture_logs() as lines:
        assert Worker(run, tmp_path, sink).send()
    assert run.counts() == {"accepted": 119, "refused": 21, "deferred": 60}
    (batch,) = [line for line in lines if line["event"] == "batch-sent"]
    assert batch["letters"] == 200
    assert len(lines) <= 5, lines


def test_a_letter_whose_key_is_missing_waits_for_it_while_the_others_go_out(database, tmp_path, sink):
    run = Run(database, readers=5)
    keyring = Keyring({**KEYRING.secrets, 2: bytes(range(50, 82))})
    with database.begin() as session:
        reader = subscribers.find(session, run.addresses[2]).id
        sealed = Sealer(keyring).seal(reader, run.addresses[2])
        session.execute(tables.subscribers.update().where(tables.subscribers.c.id == reader).values(sealed=sealed))
    late = run.addresses[2]

    assert Worker(run, tmp_path, sink).send()
    assert recipients(sink) == sorted(set(run.addresses) - {late})
    assert run.counts() == {"accepted": 4, "deferred": 1}
    waiting = run.delivery_of(2)
    assert (waiting.reason, waiting.attempts) == ("its key is not in the keyring", 1)

    # The operator adds the key to the file: the worker that is running reads it by itself.
    database.sealer = Sealer(KEYRING, lambda: keyring)
    worker = Worker(run, tmp_path, sink)
    worker.clock.ahead = dt.timedelta(minutes=6)
    assert worker.send()
    assert recipients(sink) == sorted(run.addresses)
    assert run.counts() == {"accepted": 5}
    assert not miscounted(run.database, run.mailing)


@pytest.mark.parametrize("fate", ["before", "after"])
@pytest.mark.parametrize("which", range(1, 8))
def test_a_lost_transaction_mails_nobody_twice_and_loses_nobody(database, tmp_path, sink, fate, which, monkeypatch):
    monkeypatch.setattr("service.pace.groups.GROUP_LIMIT", 100)
    monkeypatch.setattr("service.delivery.account.AWAY_SECONDS", 0.01)
    monkeypatch.setattr("service.delivery.patience.AWAY_SECONDS", 0.01)
    run = Run(database, readers=230)
    worker = Worker(run, tmp_path, sink)
    # The first two claim and prepare; then come gates and signs of life in turn.
    worker.database.lose = ["no"] * (which + 1) + [fate]

    with contextlib.suppress(DatabaseAwayError):
        worker.send()
    assert len(set(recipients(sink))) == len(recipients(sink))
    if run.state() != "sent":
        # Lost where nobody waits for it, around the batch: the sweep finds what is left.
        with run.database.begin() as session:
            progress.tidy(session, now=run.now)
    assert recipients(sink) == sorted(run.addresses)
    assert run.counts() == {"accepted": 230}
    assert run.state() == "sent"
    assert not miscounted(run.database, run.mailing)


@pytest.mark.parametrize("fate", ["before", "after"])
def test_a_batch_whose_preparing_is_lost_does_not_wait_for_its_lease_to_end(
    database, tmp_path, sink, fate, monkeypatch
):
    monkeypatch.setattr("service.delivery.patience.AWAY_SECONDS", 0.01)
    run = Run(database, readers=30)
    worker = Worker(run, tmp_path, sink)
    worker.database.lose = ["no", fate]

    worker.send()
    assert recipients(sink) == sorted(run.addresses)
    assert run.state() == "sent"


def test_a_database_that_goes_away_for_a_moment_is_waited_for(sqlite_database, tmp_path, sink):
    run = Run(sqlite_database, readers=300)
    worker = Worker(run, tmp_path, sink)
    sink.set_rules(Rule("DOT", delay=0.01))

    def trouble():
        wait_for(lambda: len(sink.entries()) > 20)
        worker.database.away = True
        time.sleep(1.2)
        worker.database.away = False

    assert worker.send(meanwhile=trouble)
    assert recipients(sink) == sorted(run.addresses)
    assert run.counts() == {"accepted": 300}


def test_a_worker_that_must_stop_does_not_wait_for_the_database_and_its_journal_knows(sqlite_database, tmp_path, sink):
    run = Run(sqlite_database, readers=300)
    worker = Worker(run, tmp_path, sink)
    sink.set_rules(Rule("DOT", delay=0.02))
    stopped = []

    def trouble():
        wait_for(lambda: len(sink.entries()) > 20)
        worker.database.away = True
        worker.stop = True
        stopped.append(time.monotonic())

    with pytest.raises(DatabaseAwayError):
        worker.send(meanwhile=trouble)
    assert time.monotonic() - stopped[0] < 10
    assert run.counts()["attempting"]

    Recovery(run.database, tmp_path, Clock(), 3600).settle_journals()

    counts = run.counts()
    assert set(counts) <= {"accepted", "pending"}
    assert counts["accepted"] == len(sink.entries())
    assert not miscounted(run.database, run.mailing)
    again = Worker(run, tmp_path, sink)
    sink.set_rules()
    assert again.send()
    assert recipients(sink) == sorted(run.addresses)


def test_a_failure_nobody_foresaw_leaves_no_letter_open(sqlite_database, tmp_path, sink, monkeypatch):
    run = Run(sqlite_database, readers=250)
    worker = Worker(run, tmp_path, sink)
    passed = gate.pass_gate
    calls = []

    def breaks(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError
        return passed(*arguments, **named)

    monkeypatch.setattr(gate, "pass_gate", breaks)
    with pytest.raises(ZeroDivisionError):
        worker.send()
    Recovery(run.database, tmp_path, Clock(), 3600).settle_journals()

    assert set(run.counts()) <= {"accepted", "pending"}
    assert run.counts()["accepted"] == len(sink.entries())
    assert Worker(run, tmp_path, sink).send()
    assert recipients(sink) == sorted(run.addresses)
    assert run.state() == "sent"


def leases_lost(worker):
    """What is told of all workers to whoever watches, once this one has stored its sums."""
    with worker.run.database.begin() as session:
        worker.dispatcher.meter.store(session, worker.run.now, at_once=True)
        families = text_string_to_metric_families(exposition(session).decode())
        (found,) = (s.value for family in families for s in family.samples if s.name == "tydzen_leases_lost_total")
    return found


def test_a_lease_that_another_took_ends_the_run_and_nobody_is_mailed_twice(sqlite_database, tmp_path, sink):
    run = Run(sqlite_database, readers=400)
    worker = Worker(run, tmp_path, sink)
    sink.set_rules(Rule("DOT", delay=0.01))

    def steal():
        wait_for(lambda: len(sink.entries()) > 20)
        with run.database.begin() as session:
            from service.store import tables

            session.execute(tables.batches.update().values(fence=tables.batches.c.fence + 1, lease_until=0))

    assert worker.send(meanwhile=steal)
    assert len(sink.entries()) < 400
    assert set(run.counts()) == {"accepted", "pending"}
    assert run.counts()["accepted"] == len(sink.entries())
    assert leases_lost(worker) == 1

    sink.set_rules()
    another = Worker(run, tmp_path, sink)
    assert another.send()
    assert leases_lost(another) == 1
    assert recipients(sink) == sorted(run.addresses)


def test_the_lease_is_kept_while_a_slow_rate_makes_it_wait(sqlite_database, tmp_path, sink):
    run = Run(sqlite_database, readers=3)
    run.control("set_rate", rate=0.4)
    worker = Worker(run, tmp_path, sink, lease=2.0)
    started = time.monotonic()

    def advance():
        while run.state() != "sent" and time.monotonic() < started + 20:
            time.sleep(0.05)
            worker.pace.now = time.monotonic() - started

    assert worker.send(meanwhile=advance)
    assert run.counts() == {"accepted": 3}
    assert time.monotonic() - started > 6
    assert run.batch(run.batch_ids()[0]).fence == 1


def test_a_reader_of_other_languages_is_mailed_in_them(database, tmp_path, sink):
    run = Run(database, readers=6)
    run.change_reader(1, chain="be,ru")
    run.change_reader(2, chain="be,ru")
    assert Worker(run, tmp_path, sink).send()
    assert run.state() == "sending"

    # As many batches as there were groups with such readers.
    for moved in run.batch_ids()[1:]:
        assert Worker(run, tmp_path, sink).send(moved)

    assert recipients(sink) == sorted(run.addresses)
    assert run.state() == "sent"
    belarusian = [raw for raw in sink.messages if b"\r\nContent-Language: be\r\n" in raw]
    assert len(belarusian) == 2


def test_an_edition_that_was_never_committed_is_nobody_elses(sqlite_database, tmp_path, sink, monkeypatch):
    """SQLite gives its number to the next one."""
    monkeypatch.setattr("service.delivery.patience.AWAY_SECONDS", 0.5)
    run = Run(sqlite_database, readers=3)
    run.change_reader(1, chain="be,ru")
    run.change_reader(2, chain="ru,en")
    assert Worker(run, tmp_path, sink).send()
    belarusian, russian = (next(b for b in map(run.batch, run.batch_ids()) if b.chain == c) for c in ("be,ru", "ru,en"))
    worker = Worker(run, tmp_path, sink, follow=10.0)
    worker.database.lose = ["no", "before"]

    def print_the_other():
        wait_for(lambda: not worker.database.lose)
        with run.database.begin() as session:
            content = editions.load(session, WEEK)
            editions.freeze(session, run.mailing, content, russian.chain, PRESS, now=run.now)

    assert worker.send(belarusian.id, meanwhile=print_the_other)

    assert run.state() == "sent"
    languages = [re.search(rb"\r\nContent-Language: (..)\r\n", raw)[1].decode() for raw in sink.messages]
    assert sorted(languages) == ["be", "en", "ru"]


def test_readers_who_move_to_a_chain_without_an_edition_are_skipped(sqlite_database, tmp_path, sink):
    run = Run(sqlite_database, readers=2)
    run.change_reader(1, chain="pl")
    assert Worker(run, tmp_path, sink).send()
    assert Worker(run, tmp_path, sink).send(run.batch_ids()[-1])

    assert recipients(sink) == [run.addresses[0]]
    assert run.counts() == {"accepted": 1, "skipped": 1}
    assert run.delivery_of(1).reason == "no edition"
    assert run.state() == "sent"


def test_the_next_batch_begins_when_the_last_letter_of_one_is_handed_over(database, tmp_path, sink):
    run = Run(database, readers=60, chains=("en",), batch_limit=20)
    first = run.batch_ids()[0]
    slow = next(run.delivery_of(number).id for number in range(60) if run.delivery_of(number).batch_id == first)
    address = next(run.addresses[number] for number in range(60) if run.delivery_of(number).id == slow)
    sink.set_rules(Rule("DOT", recipient=address, delay=5.0))
    seen = []

    def meanwhile():
        wait_for(lambda: len([one for one in recipients(sink) if one != address]) > 30)
        seen.append(run.states()[slow])

    assert Worker(run, tmp_path, sink, follow=10.0).send(first, meanwhile=meanwhile)

    assert seen == [DeliveryState.ATTEMPTING]
    assert recipients(sink) == sorted(run.addresses)
    assert run.state() == "sent"


def test_of_the_batches_of_one_call_the_last_looks_for_the_end_of_the_mailing(database, tmp_path, sink, monkeypatch):
    run = Run(database, readers=60, chains=("en",), batch_limit=20)
    first = run.batch_ids()[0]
    slow = next(run.addresses[number] for number in range(60) if run.delivery_of(number).batch_id == first)
    # So the first ends last.
    sink.set_rules(Rule("DOT", recipient=slow, delay=1.0))
    open_at_looks, finish = [], progress.finish

    def look(session, mailing, *, now):
        open_at_looks.append(batches.open_count(session, mailing))
        return finish(session, mailing, now=now)

    monkeypatch.setattr(progress, "finish", look)
    assert Worker(run, tmp_path, sink, follow=10.0).send(first)

    assert open_at_looks == [0]
    assert run.state() == "sent"


def test_a_batch_whose_lease_was_lost_is_not_taken_up_beside_its_own_run(database, tmp_path, sink):
    run = Run(database, readers=20)
    claim = run.claim()
    (late,) = run.gate(claim, [run.delivery_of(4).id]).recipients
    run.record(result(late, DeliveryState.DEFERRED, due_ms=stored(run.now) * 2))
    run.give_back(claim)
    sink.set_rules(Rule("DOT", recipient=run.addresses[3], delay=3.0))
    slow, fences = run.delivery_of(3).id, set()

    def sleep_long():
        """As after hours on a host that slept: the lease is over, and what was put off is due."""
        wait_for(lambda: len(recipients(sink)) >= 10)
        with run.database.begin() as session:
            session.execute(tables.batches.update().values(lease_until=0, due_at=0))
            session.execute(tables.deliveries.update().values(due_at=0).where(tables.deliveries.c.id == late.delivery))
        while run.states()[slow] is DeliveryState.ATTEMPTING:
            fences.add(run.batch(claim.batch).fence)
            time.sleep(0.02)

    assert Worker(run, tmp_path, sink, follow=10.0).send(meanwhile=sleep_long)
    assert Worker(run, tmp_path, sink).send()

    assert fences == {2}
    assert recipients(sink) == sorted(run.addresses)
    assert run.state() == "sent"


def test_after_its_time_a_call_takes_up_no_other_batch(sqlite_database, tmp_path, sink):
    run = Run(sqlite_database, readers=60, chains=("en",), batch_limit=20)
    assert Worker(run, tmp_path, sink, follow=0.0).send()
    assert run.counts() == {"accepted": 20, "pending": 40}


def test_a_call_goes_on_where_the_last_letters_of_a_batch_fill_the_queue_of_the_wire(database, tmp_path, sink):
    run = Run(database, readers=1200, batch_limit=300)
    assert Worker(run, tmp_path, sink, follow=60.0).send()
    assert run.counts() == {"accepted": 1200}
    assert run.state() == "sent"


def test_a_wire_that_is_stopped_is_not_asked_for_room_again_and_again(sqlite_database, tmp_path, sink):
    worker = Worker(Run(sqlite_database, readers=1), tmp_path, sink)
    asked = []

    async def ask():
        lines = await worker.lines.ready()
        lines[0].wire.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while True:
                    await worker.dispatcher._wait((), lines)
                    asked.append(lines)
        await worker.lines.close()

    asyncio.run(ask())
    worker.dispatcher.offload.close()
    assert len(asked) <= 4


def test_a_gate_of_which_nobody_knows_is_left_to_the_journal_by_a_worker_that_must_stop(
    sqlite_database, tmp_path, sink
):
    run = Run(sqlite_database, readers=10)
    worker = Worker(run, tmp_path, sink)

    def lose(point):
        if point == "before-gate":
            faults.arm(None)
            # The gate is committed, and its answer is lost; then the database is away, and the worker is told to stop.
            worker.database.lose = ["after"]
            threading.Thread(target=go_away).start()

    def go_away():
        time.sleep(0.3)
        worker.database.away = worker.stop = True
        time.sleep(4.5)
        worker.database.away = False

    faults.arm(lose)
    with pytest.raises(DatabaseAwayError):
        worker.send()
    wait_for(lambda: not worker.database.away)

    Recovery(run.database, tmp_path, worker.clock, host_away_seconds=3600).settle_journals()
    assert run.counts() == {"pending": 10}
    with run.database.begin() as session:
        session.execute(tables.batches.update().values(lease_until=0))
    assert Worker(run, tmp_path, sink).send()
    assert recipients(sink) == sorted(run.addresses)
    assert run.state() == "sent"


def test_a_letter_that_comes_back_to_a_batch_that_others_have_closed_opens_it_again(database, tmp_path, sink):
    run = Run(database, readers=1)
    claim = run.claim()
    (one,) = run.gate(claim).recipients
    # What others think of a host that has slept for an hour.
    run.record(result(one, DeliveryState.UNCERTAIN))
    run.give_back(claim)
    assert not run.batch(claim.batch).open
    account = Account(
        *(database, Offload(), Limits({}), Meter(), lambda: run.now, lambda: False, claim, lambda: None),
    )
    back = Outcome(one.delivery, one.attempt, ReplyClass.NOT_SENT, 0, None, "", Phase.MAIL, "", past_dot=False)
    account.add(back)

    # It is killed before it can give the batch back.
    asyncio.run(account.transaction(lambda _session: None))
    account.offload.close()

    assert run.counts() == {"pending": 1}
    assert run.batch(claim.batch).open
    with database.begin() as session:
        session.execute(tables.batches.update().values(lease_until=0))
    assert Worker(run, tmp_path, sink).send()
    assert recipients(sink) == run.addresses
