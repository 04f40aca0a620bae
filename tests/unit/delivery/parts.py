"""A mailing in a database, and the hands of a worker on it, without any worker."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import time

import sqlalchemy as sa

from service import faults
from service.audience.departures import OwnLog
from service.clock import SystemClock
from service.delivery import control, release
from service.delivery.correcting import Proofreader
from service.delivery.plan import Planner
from service.delivery.press import Press
from service.delivery.reconciling import Reconciler
from service.domain.delivery import DeliveryState
from service.domain.weeks import Week
from service.mail.journal import Journal
from service.render.catalogue import load_catalogues
from service.render.templates import FOLDER
from service.store import Database, batches, gate, issues, mailings, outcomes, publication, senders, subscribers, tables
from service.store.departures import DepartureLog
from service.store.instants import stored
from service.store.outcomes import Result
from tests.factories import MADE_AT, add_readers
from tests.fakes import FakeBell
from tests.unit.render import samples

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
WEEK = "2019-W22"
PRESS = Press(load_catalogues(FOLDER / "locale"), None)
LEASE = 60.0


def composed(edition):
    """What the checks of an issue ask of the press."""
    return PRESS.printed(edition)[0]


class Run:
    """One mailing of a few readers; each method is one transaction, as the parts of the service make it."""

    def __init__(self, database, *, readers=10, chains=("en",), batch_limit=1000, week=WEEK, planned=True):
        self.database = database
        self.bell = FakeBell()
        self.now = NOW
        self.batch_limit = batch_limit
        with database.begin() as session:
            publication.save(session, samples.publication(), MADE_AT)
            issues.save(session, samples.issue(week=Week.parse(week)), MADE_AT)
        self.addresses = add_readers(database, readers, chains=chains)
        with database.begin() as session:
            self.mailing = release.send(session, week, self.bell, lambda *_: [], actor="test", now=self.now)
        self.host = "this-host"
        self.sender = self.register()
        if planned:
            assert self.planner().plan(self.mailing)

    # Clock and parts

    def clock(self):
        return self

    def planner(self, **changes):
        return Planner(self.database, PRESS, self.bell, _At(self), 0.0, batch_limit=self.batch_limit, **changes)

    def register(self, host=None, boot="this-boot"):
        with self.database.begin() as session:
            return senders.register(session, host=host or self.host, boot=boot, relay="relay")

    # What a worker does

    def batch_ids(self):
        return self._all(sa.select(tables.batches.c.id).order_by(tables.batches.c.id))

    def claim(self, batch=None, *, sender=None, lease=LEASE):
        wanted = self.batch_ids()[0] if batch is None else batch
        with self.database.begin() as session:
            return batches.claim(
                session, wanted, sender=sender or self.sender, lease_seconds=lease, now_ms=stored(self.now)
            )

    def due(self, claim):
        with self.database.begin() as session:
            return batches.take_due(session, claim, stored(self.now))

    def gate(self, claim, ids=None, *, sender=None, lease=LEASE):
        wanted = self.due(claim) if ids is None else ids
        with self.database.begin() as session:
            gated = gate.pass_gate(
                session, claim, wanted, sender=sender or self.sender, lease_seconds=lease, now_ms=stored(self.now)
            )
        if gated is not None:
            # PostgreSQL returns them as it came upon them.
            gated.recipients.sort()
        return gated

    def record(self, *results):
        with self.database.begin() as session:
            return outcomes.record(session, results, now_ms=stored(self.now))

    def give_back(self, claim):
        with self.database.begin() as session:
            return batches.give_back(session, claim)

    # What an operator does

    def control(self, verb, *, check=lambda *_: [], **more):
        with self.database.begin() as session:
            use_case = getattr(control, verb)
            parts = {"resume": (self.bell,), "retry": (self.bell, check)}.get(verb, ())
            if verb in {"resume", "retry"}:
                more.setdefault("proofs", Proofreader(PRESS, check))
            done = use_case(session, self.mailing, *parts, actor="test", now=self.now, **more)
        return done.again if verb == "retry" else done

    def change_reader(self, number, **values):
        with self.database.begin() as session:
            found = subscribers.find(session, self.addresses[number])
            session.execute(tables.subscribers.update().where(tables.subscribers.c.id == found.id).values(**values))
            return found

    # Looking

    def _all(self, statement):
        with self.database.read() as session:
            return list(session.execute(statement).scalars())

    def state(self):
        with self.database.read() as session:
            return mailings.get(session, self.mailing).state.value

    def counts(self):
        """Of the mailing, those above zero."""
        with self.database.read() as session:
            found = mailings.counts(session, self.mailing)
        summed = sum(found.values(), mailings.Counts()).as_dict()
        return {name: count for name, count in summed.items() if count}

    def delivery_of(self, number):
        """The row of the delivery to that reader."""
        with self.database.read() as session:
            found = subscribers.find(session, self.addresses[number])
            rows = session.execute(sa.select(tables.deliveries).where(tables.deliveries.c.subscriber_id == found.id))
            return rows.one()

    def states(self):
        """State by delivery."""
        with self.database.read() as session:
            rows = session.execute(sa.select(tables.deliveries.c.id, tables.deliveries.c.state))
            return {row.id: DeliveryState(row.state) for row in rows}

    def batch(self, number):
        with self.database.read() as session:
            return session.execute(sa.select(tables.batches).where(tables.batches.c.id == number)).one()


class _At:
    def __init__(self, run):
        self._run = run

    def now(self):
        return self._run.now


def result(recipient, state, **more):
    """A result of that gated attempt."""
    return Result(recipient.delivery, recipient.attempt, state, more.pop("outcome", state.label), **more)


def accepted(recipient):
    return result(recipient, DeliveryState.ACCEPTED)


def journal(data_dir, sender):
    return Journal(data_dir, sender_id=sender)


def wait_for_a_waiter(database, seconds=30, *, waiters=1):
    """Until some transaction of this PostgreSQL database waits for a lock of another, or so many of them do."""
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with database.read() as session:
            if session.scalar(waiting) >= waiters:
                return
        time.sleep(0.01)
    raise AssertionError(f"nobody waits, or fewer than {waiters}")


def books(database, data_dir, clock=None):
    """What holds the journals of that data directory against the database."""
    log = OwnLog(DepartureLog(data_dir / "departures.log"), "test")
    return Reconciler(database, data_dir, clock or SystemClock(), log)


class Time:
    """A database that can be set back to what it was: every row of every table."""

    def __init__(self, database):
        self.database = database
        self.rows = {}

    def keep(self):
        with self.database.read() as session:
            for table in tables.metadata.sorted_tables:
                self.rows[table] = [dict(row._mapping) for row in session.execute(sa.select(table))]

    def go_back(self):
        with self.database.begin() as session:
            for table in reversed(tables.metadata.sorted_tables):
                session.execute(table.delete())
            for table in tables.metadata.sorted_tables:
                if self.rows[table]:
                    session.execute(table.insert(), self.rows[table])


def replaced_in_silence(database, monkeypatch):
    """As in a failover: the connections lie idle for a while, their server is gone, and another one answers."""
    monkeypatch.setattr("service.store.pooling.TRUSTED_SECONDS", 0.0)
    others = "pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    with contextlib.closing(Database(str(database.url), database.sealer)) as killer, killer.begin() as session:
        session.execute(sa.text(f"SELECT {others} AND datname = current_database()"))  # our own words


def killed_at(point, skip, work):
    """Do the work in a process of its own, which SIGKILL ends at that point, once it was passed `skip` times."""
    child = os.fork()
    if not child:
        passed = []

        def die(here):
            passed.append(here)
            if here == point and passed.count(point) > skip:
                os.kill(os.getpid(), signal.SIGKILL)

        with contextlib.suppress(BaseException):
            faults.arm(die)
            work()
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{point} was not reached so often"
    assert os.WTERMSIG(status) == signal.SIGKILL
