"""Hosts whose clocks differ agree on what is due, what expires and which day it is: they go by the database's."""

import datetime as dt
from contextlib import closing, contextmanager

import pytest

from service import bootstrap, config
from service.clock import CommonClock
from service.domain.limits import midnight_after
from service.embedded.keyring_file import write_keyring
from service.pace.places import Places
from service.store import Database
from service.store.instants import loaded
from tests.conftest import KEYRING
from tests.fakes import FakeBell
from tests.smtp_sink import Rule, SmtpSink
from tests.unit.delivery.parts import Run
from tests.unit.delivery.worker import Clock, Worker

RIGHT, AHEAD = dt.timedelta(0), dt.timedelta(days=3)
NEAR = dt.timedelta(minutes=5)
LATER = "451 4.7.1 later, please"


@pytest.fixture
def sink(tmp_path):
    with SmtpSink(tmp_path / "ledger") as made:
        yield made


def machine(ahead):
    made = Clock()
    made.ahead = ahead
    return made


@contextmanager
def host(run, folder, sink, ahead, options=""):
    """A worker of a host whose clock is so far ahead; all that it asks of the database it asks by itself."""
    clock, there = CommonClock(machine(ahead)), run.database
    with closing(Database(there.url.render_as_string(hide_password=False), there.sealer, clock=clock)) as own:
        run.database = own
        urls = f"smtp://127.0.0.1:{sink.port}?tls=none&connections=2{options}"
        yield Worker(run, folder, sink, urls=urls, clock=clock)
        run.database = there


@pytest.mark.usefixtures("before_midnight")
@pytest.mark.parametrize("order", [(RIGHT, AHEAD), (AHEAD, RIGHT)], ids=["the-right-one-first", "the-wrong-one-first"])
def test_two_hosts_whose_clocks_are_days_apart_share_the_cap_of_one_day(postgresql_database, tmp_path, sink, order):
    run = Run(postgresql_database, readers=50)
    tonight = midnight_after(dt.datetime.now(dt.UTC))
    for ahead in order:
        with host(run, tmp_path, sink, ahead, "&per_day=20") as worker:
            worker.send()
    assert len(sink.entries()) == 20
    assert loaded(run.batch(run.batch_ids()[0]).not_before) == tonight


def test_a_host_whose_clock_is_ahead_neither_expires_nor_hastens_what_is_deferred(postgresql_database, tmp_path, sink):
    run = Run(postgresql_database, readers=5)
    sink.set_rules(Rule("RCPT", LATER))
    with host(run, tmp_path, sink, RIGHT) as worker:
        assert worker.send()
    due = run.delivery_of(0).due_at
    assert run.counts() == {"deferred": 5}

    with host(run, tmp_path, sink, AHEAD) as worker:
        assert not worker.send()
    assert run.delivery_of(0).due_at == due


def test_what_a_host_defers_whose_clock_is_wrong_is_due_in_time(postgresql_database, tmp_path, sink):
    run = Run(postgresql_database, readers=5)
    sink.set_rules(Rule("RCPT", LATER))
    with host(run, tmp_path, sink, AHEAD) as worker:
        assert worker.send()
    assert run.counts() == {"deferred": 5}
    assert loaded(run.delivery_of(0).due_at) < dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)


def test_all_that_delivers_goes_by_one_clock_and_what_dates_files_by_the_machines(postgresql_database, tmp_path):
    url = postgresql_database.url.render_as_string(hide_password=False)
    settings = config.load(data_dir=tmp_path / "var", database_url=url, smtp_url="smtp://127.0.0.1:25?tls=none")
    settings.data_dir.mkdir()
    write_keyring(settings.keyring_path, KEYRING)
    wrong = machine(AHEAD)
    parts = bootstrap.Services(settings, wrong)
    parts.__dict__["bell"] = FakeBell()
    process = parts.sending_process(Places.of_new_worker(tmp_path / "places", 1), lambda: False)
    try:
        ours = (parts.planner, parts.sweep, parts.sweep.recovery, parts.books, process.dispatcher, process.postman)
        assert {one.clock for one in ours} == {parts.common_clock}
        assert parts.sweep.recovery.machine is parts.books.machine is wrong
        assert abs(parts.common_clock.now() - dt.datetime.now(dt.UTC)) < NEAR
    finally:
        process.close()
        process.loop.close()
        parts.database.close()
