"""Sending an issue, from the command to the relay, through real workers, a real Valkey and real sockets."""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.store import subscribers, suppressions, tables
from tests.installation import PROJECT, audit, mailing_state
from tests.smtp_sink import Rule

pytestmark = pytest.mark.slow


def taken(made, prefix):
    """What the sink has taken for readers of that name."""
    return [entry for entry in made.sink.entries() if entry.recipient.startswith(prefix)]


def reader(made, address):
    with made.database.read() as session:
        return subscribers.find(session, address)


def send(made, week, prefix, count, *, rate=None):
    """An issue to so many readers of their own."""
    addresses = made.fill(count, week=week, prefix=prefix)
    return addresses, made.send(week, readers=addresses, rate=rate)


def send_by_command(made, week, prefix, count, *words):
    addresses = made.fill(count, week=week, prefix=prefix)
    return addresses, made.send_command(week, *words, readers=addresses)


def test_everybody_gets_one_mail_and_ledger_status_and_explain_agree(running, week):
    log = running.workers[0].log
    before = len(log.read_text())
    addresses, mailing = send_by_command(running, week, "all-", 300)

    running.wait_until_sent(mailing)
    one_line_for_each_batch(running, mailing, log, before)

    found = audit(running, mailing, only="all-")
    found.complain()
    assert found.taken == found.planned == 300
    assert sorted(entry.recipient for entry in taken(running, "all-")) == sorted(addresses)
    status = running.json("mailing", "status", mailing)
    assert (status["state"], status["planned"], status["accepted"]) == ("sent", 300, 300)
    assert {chain: counts["accepted"] for chain, counts in status["editions"].items()} == {
        "en": 60, "be,ru": 60, "ru": 60, "be,ru,en": 60, "ru,be": 60,
    }  # fmt: skip
    ledger = running.json_lines("mailing", "ledger", mailing)
    assert {line["message_id"] for line in ledger} == {entry.message_id for entry in taken(running, "all-")}
    assert {line["state"] for line in ledger} == {"accepted"}
    assert not [line for line in ledger if "@example.test" in str(line)]
    told = running.json("explain", addresses[1], week)
    line = next(line for line in ledger if line["subscriber"] == told["reader"])
    assert told["state"] == line["state"] == "accepted"
    assert told["edition"] == line["edition"] == "be,ru"
    assert told["batch"] == line["batch"]


def one_line_for_each_batch(made, mailing, log, before):
    """Each batch has its line when it is done, which counts its letters, and else there is hardly any."""
    with made.database.read() as session:
        sizes = sa.select(tables.deliveries.c.batch_id, sa.func.count()).group_by(tables.deliveries.c.batch_id)
        expected = dict(session.execute(sizes.where(tables.deliveries.c.mailing_id == mailing)).all())

    def lines():
        return log.read_text()[before:].splitlines()

    def told():
        letters = Counter()
        for line in lines():
            if "batch-sent" in line and f"mailing={mailing} " in line:
                found = dict(re.findall(r"(batch|letters)=(\d+)", line))
                letters[int(found["batch"])] += int(found["letters"])
        return letters

    # The line follows the commit that others see.
    made.wait_for(lambda: told() == expected, why=f"{told()}, not {expected}")
    # Some more for what a worker has to say of itself, with Celery's greeting; far from one for each letter.
    assert len(lines()) <= len(expected) + 50 < sum(expected.values()) / 5
    assert not [line for line in lines() if "@example.test" in line]


def test_a_pause_stops_within_a_second_and_resume_goes_on(running, week):
    _, mailing = send(running, week, "pause-", 150, rate=40)
    running.wait_for(lambda: len(taken(running, "pause-")) >= 20)

    running.control("pause", mailing)
    paused = time.time()
    time.sleep(1.5)
    stopped = len(taken(running, "pause-"))
    time.sleep(0.5)
    assert len(taken(running, "pause-")) == stopped < 150
    assert max(entry.at for entry in taken(running, "pause-")) < paused + 1

    running.control("set_rate", mailing, rate=0)
    running.control("resume", mailing)
    running.wait_until_sent(mailing)
    audit(running, mailing, only="pause-").complain()
    assert len(taken(running, "pause-")) == 150


def test_a_cancelled_mailing_sends_nothing_more_and_retry_takes_it_back(running, week):
    _, mailing = send(running, week, "cancel-", 120, rate=30)
    running.wait_for(lambda: len(taken(running, "cancel-")) >= 10)

    assert running.control("cancel", mailing) > 0
    running.wait_for(lambda: not running.status(mailing).counts.attempting)
    before = len(taken(running, "cancel-"))
    assert mailing_state(running, mailing) == "cancelled"
    assert before < 120

    running.control("set_rate", mailing, rate=0)
    running.control("retry", mailing)
    running.wait_until_sent(mailing)
    audit(running, mailing, only="cancel-").complain()
    assert len(taken(running, "cancel-")) == 120


def test_a_higher_rate_takes_effect_while_a_slow_mailing_waits_for_its_tokens(running, week):
    _, mailing = send(running, week, "rate-", 40, rate=0.05)
    running.wait_for(lambda: running.status(mailing).mailing.state.value == "sending")
    time.sleep(1)
    assert len(taken(running, "rate-")) <= 1

    running.control("set_rate", mailing, rate=1000)

    running.wait_until_sent(mailing, 8)
    audit(running, mailing, only="rate-").complain()


def test_whoever_leaves_while_the_mailing_runs_gets_nothing_a_second_later(running, week):
    addresses, mailing = send(running, week, "leave-", 200, rate=30)
    running.wait_for(lambda: len(taken(running, "leave-")) >= 10)
    early = {entry.recipient for entry in taken(running, "leave-")}
    leaving = [address for address in addresses if address not in early][:60]
    with running.database.begin() as session:
        for address in leaving[:30]:
            found = subscribers.find(session, address)
            subscribers.set_status(session, found.id, SubscriberStatus.UNSUBSCRIBED, week=found.joined_week)
    committed = time.time()
    with running.database.begin() as session:
        found = subscribers.find(session, leaving[40])
        suppressions.add(session, found.address_hash, SuppressionReason.OPERATOR, found.joined_week)
    time.sleep(1)

    running.control("set_rate", mailing, rate=0)
    running.wait_until_sent(mailing)

    late = [entry for entry in taken(running, "leave-") if entry.recipient in leaving[:30]]
    assert all(entry.at < committed + 1 for entry in late)
    found = audit(running, mailing, only="leave-")
    found.complain()
    assert found.states[DeliveryState.SKIPPED] + len(taken(running, "leave-")) == 200
    reasons = {reason for state, reason in running.states(mailing).values() if state is DeliveryState.SKIPPED}
    assert reasons <= {"unsubscribed", "suppressed"}


def test_a_greylisted_reader_gets_the_mail_at_the_next_try_under_the_same_name(running, week, rules):
    rules(running, Rule("RCPT", "451 4.7.1 greylisted", recipient="grey-1@", times=1))
    addresses, mailing = send(running, week, "grey-", 3)
    running.wait_for(lambda: running.status(mailing).counts.deferred == 1)
    assert running.json("mailing", "retry", mailing)["again"] == 1

    running.wait_until_sent(mailing)
    audit(running, mailing, only="grey-").complain()
    assert len({entry.mail_from for entry in taken(running, "grey-")}) == 3
    told = running.json("explain", addresses[1], week)
    assert (told["state"], told["attempts"]) == ("accepted", 2)
    assert [failure["code"] for failure in told["failures"]] == [451]


def test_a_mailbox_that_is_not_there_is_suppressed_and_no_other(running, week, rules):
    rules(running, Rule("RCPT", "550 5.1.1 no such user", recipient="gone-1@"))
    addresses, mailing = send(running, week, "gone-", 5)
    running.wait_until_sent(mailing)

    assert running.status(mailing).counts.as_dict() | {"accepted": 4, "refused": 1} == (
        running.status(mailing).counts.as_dict()
    )
    with running.database.read() as session:
        suppressed = [suppressions.is_suppressed(session, reader(running, one).address_hash) for one in addresses]
    assert suppressed == [False, True, False, False, False]
    assert reader(running, addresses[1]).status is SubscriberStatus.BOUNCED
    assert running.control("retry", mailing) == 0
    assert len(taken(running, "gone-")) == 4
    # A restored backup must not try the address again.
    written = (running.folder / "data" / "departures.log").read_text()
    assert f" bounced {reader(running, addresses[1]).address_hash.hex()}\n" in written


def test_a_refusal_by_policy_suppresses_nobody_and_retry_sends_again(running, week, rules):
    rules(running, Rule("DOT", "550 5.7.1 looks like spam", recipient="policy-"))
    addresses, mailing = send(running, week, "policy-", 6)
    running.wait_for(lambda: running.status(mailing).counts.refused == 6)
    assert all(reader(running, one).status is SubscriberStatus.ACTIVE for one in addresses)

    rules(running)
    assert running.control("retry", mailing) == 6
    running.wait_for(lambda: len(taken(running, "policy-")) == 6)
    running.wait_until_sent(mailing)
    audit(running, mailing, only="policy-").complain()


def test_an_issue_is_sent_once_and_the_second_try_names_the_first(running, week):
    _, mailing = send(running, week, "once-", 2)

    again = running.tydzen("issue", "send", week, "--yes", wants=5)

    assert f"mailing {mailing}" in again.stderr
    running.wait_until_sent(mailing)
    assert len(taken(running, "once-")) == 2


def test_a_worker_that_is_asked_to_stop_leaves_nothing_uncertain(running, week, rules):
    rules(running, Rule("DOT", delay=0.1, recipient="stop-"))
    _, mailing = send(running, week, "stop-", 200)
    running.wait_for(lambda: len(taken(running, "stop-")) >= 20)

    # As a supervisor that tells every process of a group; one that tells the parent alone asks less.
    worker = running.workers[-1]
    asked = time.monotonic()
    os.killpg(worker.pid, signal.SIGTERM)
    assert worker.process.wait(90) == 0
    assert time.monotonic() - asked < 10
    counts = running.status(mailing).counts
    assert counts.attempting == counts.uncertain == 0
    assert counts.pending
    assert not list((running.folder / "data" / "journals").glob("*.journal"))

    rules(running)
    running.start_worker(concurrency=3)
    running.sweep()
    running.wait_until_sent(mailing)
    found = audit(running, mailing, only="stop-")
    found.complain()
    assert found.uncertain == 0


def test_workers_wait_while_valkey_is_away_and_go_on_when_it_is_back(running, week):
    _, mailing = send(running, week, "away-", 120, rate=40)
    running.wait_for(lambda: len(taken(running, "away-")) >= 10)

    running.valkey.kill()
    time.sleep(1.5)
    waiting = len(taken(running, "away-"))
    time.sleep(1)
    assert len(taken(running, "away-")) == waiting < 120
    assert "pace-away" in running.logs()

    running.valkey.start()
    running.wait_for(lambda: len(taken(running, "away-")) > waiting, 30)
    running.wait_until_sent(mailing)
    audit(running, mailing, only="away-").complain()


def test_without_any_beat_the_workers_own_sweep_releases_a_mailing_at_its_time(running_on_sqlite, week):
    made = running_on_sqlite
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    _, mailing = send_by_command(made, week, "later-", 3, "--at", tomorrow.isoformat())
    assert mailing_state(made, mailing) == "scheduled"
    at = time.time() + 0.5
    with made.database.begin() as session:
        session.execute(tables.mailings.update().where(tables.mailings.c.id == mailing).values(release_at=at * 1000))

    made.wait_until_sent(mailing, 40)

    assert min(entry.at for entry in taken(made, "later-")) >= at


def test_a_sweep_that_died_beside_its_worker_is_started_again(running_on_sqlite):
    worker = running_on_sqlite.workers[-1]
    running_on_sqlite.wait_for(worker.sweeps)
    (first,) = worker.sweeps()
    os.kill(first, signal.SIGKILL)

    running_on_sqlite.wait_for(lambda: [pid for pid in worker.sweeps() if pid != first], 15)


# Twenty commands in a row take a minute to start; forked from one process that has read everything they begin at once.
TWENTY = """
import os, sys
import service.bootstrap, service.cli.issue_send, service.delivery.release, service.editorial.checks, service.queue
from service.cli import main

folder, week = sys.argv[1:]
children = []
for number in range(20):
    child = os.fork()
    if child:
        children.append(child)
        continue
    said = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(said, 1), os.dup2(said, 2)
    sys.argv = ["tydzen", "issue", "send", week, "--yes", "--json"]
    main()
    os._exit(0)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_twenty_commands_at_once_make_one_mailing(running_on_sqlite, week, tmp_path):
    made = running_on_sqlite
    made.fill(week=week)
    done = subprocess.run(
        [sys.executable, "-c", TWENTY, tmp_path, week],
        env=made.environment, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip

    codes = list(map(int, done.stdout.split()))
    said = [(tmp_path / str(number)).read_text() for number in range(20)]
    assert sorted(codes) == [0] + [5] * 19, said
    with made.database.read() as session:
        found = sa.select(tables.mailings.c.id).join(tables.issues).where(tables.issues.c.week == week)
        (mailing,) = session.execute(found).scalars()
    assert all(f"mailing {mailing}" in words for words, code in zip(said, codes, strict=True) if code)
    assert f'"mailing": {mailing}' in said[codes.index(0)]
