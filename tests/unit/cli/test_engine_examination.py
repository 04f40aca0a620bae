"""What the doctor says of the engine: what is wrong, and in the words of whatever knows better."""

import os
import time
from types import SimpleNamespace

import pytest
import redis
from celery import Celery

from service.cli import engine_examination, examination
from service.domain.errors import CheckFailedError
from service.mail.journal import Journal
from service.queue import BULK, celery_settings, waiting
from service.store import engine_tables, hosts, tables
from tests.modes import heeded
from tests.unit.delivery.parts import Run


def parts(database):
    """As the command has them, of an installation that is stalled at once; it is a mailing of long ago."""
    return SimpleNamespace(database=database, settings=SimpleNamespace(stalled_seconds=300))


def test_a_mailing_that_waits_before_it_is_planned_is_no_want_of_workers(database):
    run = Run(database, readers=1, planned=False)
    with pytest.raises(
        CheckFailedError, match=r"or a mailing is to be planned, and nothing moved for \d+ s; is a worker"
    ):
        engine_examination.progress(parts(database))
    with database.begin() as session:
        hosts.await_all(session, "a" * 32, {})
    assert not run.planner().plan(run.mailing)
    with pytest.raises(CheckFailedError, match=rf"mailing {run.mailing} waits: the database was restored") as caught:
        engine_examination.progress(parts(database))
    assert "is a worker" not in str(caught.value)


class Parts(SimpleNamespace):
    """What the doctor asks of the real thing, with the counts of the queues of a real Valkey."""

    def require_redis(self):
        pass

    def queue_lengths(self):
        return waiting(self.app)


@pytest.fixture
def whole(database, tmp_path, clock, valkey):
    """An installation that is well: a planned mailing, a claimed and gated batch, a data directory, a broker."""
    run = Run(database, readers=4)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with database.read() as session:
        clock.set(session.now())
    app = Celery("tydzen", set_as_current=False)
    app.conf.update(celery_settings(valkey.url))
    settings = SimpleNamespace(stalled_seconds=10**10, data_dir=data)
    parts = Parts(database=database, settings=settings, clock=clock, app=app, valkey=valkey, run=run)
    run.gate(run.claim())
    return parts


def change(whole, statement):
    with whole.database.begin() as session:
        session.execute(statement)


def lose_a_lease(whole, _):
    change(whole, tables.batches.update().values(lease_until=1))


def silence_a_host(whole, _):
    change(whole, tables.senders.update().values(seen_at=1))


def leave_a_journal(whole, _):
    with Journal(whole.settings.data_dir, sender_id=whole.run.sender) as made:
        path = made.path
    os.utime(path, (time.time() - 150, time.time() - 150))


def pile_up_hints(whole, _):
    whole.app.send_task("nobody", queue=BULK)
    with redis.Redis.from_url(whole.valkey.url) as client:
        hint = client.lindex(BULK, 0)
        client.rpush(BULK, *[hint] * 10_000)


def ring_in_vain(whole, _):
    change(whole, tables.batches.update().values(lease_until=0, rung_at=1, due_at=1, pending=1))
    change(whole, tables.mailings.update().values(started_at=1))
    whole.settings.stalled_seconds = 300


def count_wrongly(whole, _):
    change(whole, tables.batches.update().values(accepted=tables.batches.c.accepted + 1))


def leave_a_relay_alone(whole, _):
    with whole.database.begin() as session:
        row = {"scope": "relay:a.test:25", "kind": "outage", "reason": "it is away", "since": 1, "trips": 1}
        session.execute(engine_tables.breakers.insert().values(row))


def set_the_clock_wrong(whole, _):
    whole.clock.advance(seconds=-60)


def fill_the_disk(_, monkeypatch):
    # No test fills the disk of whoever runs it: what is free is as it is, and too little.
    monkeypatch.setattr(examination, "_FREE_OCTETS", 1 << 60)


def open_the_folder(whole, _):
    whole.settings.data_dir.chmod(0o755)


def lose_the_folder(whole, _):
    whole.settings.data_dir.rmdir()


@pytest.mark.parametrize(
    ("check", "bring_about", "words"),
    [
        (engine_examination.leases, lose_a_lease, r"^1 batches have letters under way and a lease that ran out"),
        (engine_examination.leases, silence_a_host, r"^1 worker processes of silent hosts have letters"),
        (engine_examination.journals, leave_a_journal, r"^1 journals of dead workers are not read yet"),
        (engine_examination.queues, pile_up_hints, r"^hints pile up in Redis \(.*bulk 10001\)"),
        (engine_examination.queues, ring_in_vain, r"^batches are rung for, and nobody takes one for \d+ s"),
        (engine_examination.counts, count_wrongly, r"^of mailing \d+ some batches are not counted right"),
        (engine_examination.left_alone, leave_a_relay_alone, r"^left alone at present: 1 × outage"),
        (examination._clock, set_the_clock_wrong, r"^this machine's clock and the database's differ by 6\d s"),
        (examination._data_directory, fill_the_disk, r"^only \d+ MB are free on the disk of /.*/data; make room"),
        (examination._data_directory, open_the_folder, r"^everybody on this machine may read /.*/data"),
        (examination._data_directory, lose_the_folder, r"^/.*/data does not exist"),
    ],
)
def test_what_is_not_well_is_told_and_nothing_of_what_is(whole, monkeypatch, check, bring_about, words):
    check(whole)
    bring_about(whole, monkeypatch)
    with pytest.raises(CheckFailedError, match=words):
        check(whole)


def test_a_journal_in_use_and_one_that_a_sweep_is_about_to_read_are_nothing_to_tell(whole):
    with Journal(whole.settings.data_dir, sender_id=whole.run.sender):
        assert engine_examination.journals(whole) == "1 in use, none left unread"
    assert engine_examination.journals(whole) == "0 in use, none left unread"


@pytest.mark.parametrize(("ending", "mode"), [("journal", 0o000), ("journal", 0o400), ("settled", 0o000)])
def test_a_journal_that_this_user_may_not_read_and_write_is_named_with_the_mend(whole, ending, mode):
    data = whole.settings.data_dir
    with Journal(data, sender_id=whole.run.sender) as made:
        path = made.path.rename(made.path.with_suffix(f".{ending}"))
    path.chmod(mode)
    mend = f"chown -R --reference={data} {data}/journals$"
    with heeded(), pytest.raises(CheckFailedError, match=rf"^1 may not be read and written .*{path}.*{mend}"):
        engine_examination.journals(whole)


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o500, 0o600])
def test_a_folder_of_journals_that_this_user_may_not_use_is_named_with_the_mend(whole, mode):
    data = whole.settings.data_dir
    with Journal(data, sender_id=whole.run.sender):
        pass
    (data / "journals").chmod(mode)
    mend = f"chown -R --reference={data} {data}/journals$"
    try:
        with heeded(), pytest.raises(CheckFailedError, match=rf"such as {data}/journals, .*{mend}"):
            engine_examination.journals(whole)
    finally:
        (data / "journals").chmod(0o700)


def test_workers_are_missed_where_no_host_was_seen(whole):
    with pytest.raises(CheckFailedError, match="no worker was seen in the last two minutes"):
        engine_examination.workers(whole)
