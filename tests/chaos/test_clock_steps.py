"""The wall clock of one host of two is stepped, or stands still, in mid-run: leases, deferrals and times set go by the database's."""

from __future__ import annotations

import contextlib
import email
import email.policy
import email.utils
import shutil
import time

import pytest
import sqlalchemy as sa

from service.clock import SystemClock
from service.delivery import release
from service.domain.delivery import DeliveryState
from service.store import mailings, tables
from service.store.instants import loaded, stored
from tests.chaos.clocks import WallClock, hindrance
from tests.chaos.run import hurried
from tests.chaos.test_database_network import until
from tests.chaos.test_faults import is_sent, url_of
from tests.chaos.test_scarcity import everybody_has_one
from tests.chaos.test_valkey import keeps_to
from tests.factories import set_slot
from tests.installation import audit, installed
from tests.smtp_sink import Rule

pytestmark = pytest.mark.slow

DAY = 86_400
RATE = 50
STEPS = {
    "a-day-on": lambda clock: clock.step(DAY),
    "a-day-back": lambda clock: clock.step(-DAY),
    "three-seconds-on": lambda clock: clock.step(3),
    "three-seconds-back": lambda clock: clock.step(-3),
    "standing-still": WallClock.stop,
}
# What becomes due is found by a sweep each 15 seconds; and a busy machine takes its time.
SWEEP_SECONDS, BUSY_SECONDS = 15, 10
LATER = 20


@contextlib.contextmanager
def two_hosts(folder, url, **settings):
    """An installation, the clock of the second of its two hosts, and the worker of each."""
    why = hindrance()
    if why:
        pytest.skip(why)
    with installed(folder / "run", url, batch_size=10, **settings) as made:
        clock = WallClock(folder)
        workers = [made.start_worker(concurrency=2)]
        data = folder / "second"
        data.mkdir()
        shutil.copy(folder / "run" / "data" / "secret.key", data)
        workers.append(made.start_worker(concurrency=2, within=clock.within, data_dir=data))
        made.wait_for(lambda: all(worker.sweeps() and worker.children() for worker in workers), 60)
        yield made, clock, workers


def by_host(made):
    """How many deliveries each host has gated last."""
    d, s = tables.deliveries, tables.senders
    counted = sa.select(s.c.host, sa.func.count()).join(d, d.c.sender_id == s.c.id).group_by(s.c.host)
    with made.database.read() as session:
        return dict(session.execute(counted).all())


def test_a_wall_clock_that_steps_again_and_again_costs_no_lease_and_dates_no_letter(postgresql_database, tmp_path):
    readers = 480
    with two_hosts(tmp_path, url_of(postgresql_database), rate=RATE) as (made, clock, workers):
        made.fill(readers)
        mailing = made.send()
        made.wait_for(lambda: len(by_host(made)) == 2, 60)
        for step in STEPS.values():
            step(clock)
            until(made, RATE)
        clock.set_right()
        made.wait_for(lambda: is_sent(made, mailing), 90)
        everybody_has_one(made, mailing, readers)
        keeps_to(RATE, made)
        assert len(by_host(made)) == 2
        assert min(by_host(made).values()) > readers / 10
        # Nobody took from another what was his, and each letter says when it was written.
        assert not any("claim-lost" in worker.log.read_text("utf-8", "replace") for worker in workers)
        taken_at = {entry.message_id: entry.at for entry in made.sink.entries()}
        for octets in made.sink.messages:
            message = email.message_from_bytes(octets, policy=email.policy.default)
            dated = email.utils.parsedate_to_datetime(message["Date"]).timestamp()
            assert abs(dated - taken_at[message["Message-ID"]]) < BUSY_SECONDS


def put_off(made, mailing):
    """When its deferred letters are due, in seconds since 1970."""
    d = tables.deliveries
    found = sa.select(d.c.due_at).where(d.c.mailing_id == mailing, d.c.state == int(DeliveryState.DEFERRED))
    with made.database.read() as session:
        return [due / 1000 for due in session.execute(found).scalars()]


def in_hand(made, mailing):
    """How many of its batches a worker holds: it says last of all when they are due."""
    mine = tables.batches.c.mailing_id == mailing, tables.batches.c.lease_until > 0
    with made.database.read() as session:
        return session.scalar(sa.select(sa.func.count()).where(*mine))


def hasten(made, mailing, due):
    """Have what was deferred be due at that instant."""
    with made.database.begin() as session:
        for table in (tables.deliveries, tables.batches):
            mine = table.c.mailing_id == mailing, table.c.due_at > 0
            session.execute(table.update().where(*mine).values(due_at=stored(due)))


def send_at(made, week, instant):
    """As `tydzen issue send --at`."""
    with made.database.begin() as session:
        now = SystemClock().now()
        return release.send(session, week, made._bell, lambda *_: [], actor="test", now=now, at=instant)


@contextlib.contextmanager
def sweeping_by(made, clock, data):
    """The host with that clock sweeps each second, and each sweep does all of its work."""
    right = made.environment
    made.environment = {**right, "TYDZEN_DATA_DIR": str(data)}
    made.start_module("service.cli", "sweep", "--every", 1, within=clock.within)
    made.environment = right
    with hurried(made):
        yield


@pytest.mark.parametrize(
    ("step", "eager"),
    [
        pytest.param("a-day-on", True, id="a-day-on-with-sweeps-each-second"),
        *(pytest.param(step, False, id=step, marks=pytest.mark.long) for step in STEPS),
    ],
)
def test_what_is_deferred_or_set_for_a_time_comes_once_and_then(postgresql_database, tmp_path, step, eager):
    rules = [Rule("RCPT", "451 4.7.1 later", recipient="later", once_each=True)]
    with contextlib.ExitStack() as stack:
        made, clock, _ = stack.enter_context(
            two_hosts(tmp_path, url_of(postgresql_database), rules=rules, own_process=True)
        )
        made.fill(60)
        made.fill(LATER, prefix="later")
        made.fill(0, week="2019-W23")
        STEPS[step](clock)
        first = made.send()
        made.wait_for(lambda: len(put_off(made, first)) == LATER and not in_hand(made, first), 60)
        # Five minutes, more or less by a fifth.
        now = time.time()
        assert all(240 - BUSY_SECONDS < due - now <= 360 for due in put_off(made, first))
        if eager:
            stack.enter_context(sweeping_by(made, clock, tmp_path / "second"))
        deadline = loaded(int((time.time() + 6) * 1000))
        hasten(made, first, deadline)
        second = send_at(made, "2019-W23", deadline)
        made.wait_for(lambda: is_sent(made, first) and is_sent(made, second), 60)
        due, at = deadline.timestamp(), [entry.at for entry in made.sink.entries()][80 - LATER :]
        assert len(at) == LATER + 80
        assert min(at) >= due
        assert max(at) <= due + SWEEP_SECONDS + BUSY_SECONDS
        for mailing in (first, second):
            everybody_has_one_of(made, mailing, 80)


def everybody_has_one_of(made, mailing, readers):
    """As `everybody_has_one`, where the relay took letters of another mailing, too."""
    found = audit(made, mailing)
    assert [found.twice, found.lost, found.unfinished, found.miscounted] == [[], [], [], []]
    assert found.states == {DeliveryState.ACCEPTED: readers}


@pytest.mark.long
@pytest.mark.parametrize("step", ["a-day-on", "a-day-back", "standing-still"])
def test_a_slot_of_the_schedule_fires_once_and_then(postgresql_database, tmp_path, step):
    with two_hosts(tmp_path, url_of(postgresql_database), own_process=True) as (made, clock, _):
        made.fill(60)
        slot, week = set_slot(made.database)
        made.fill(0, week=str(week))
        STEPS[step](clock)
        made.wait_for(made.taken, 140)
        # Each host sweeps once more.
        time.sleep(SWEEP_SECONDS + 1)
        with made.database.read() as session:
            (mailing,) = mailings.everyone(session)
        assert mailing.week == str(week)
        everybody_has_one(made, mailing.id, 60)
        at = [entry.at for entry in made.sink.entries()]
        assert min(at) >= slot.timestamp()
        assert max(at) <= slot.timestamp() + SWEEP_SECONDS + BUSY_SECONDS
