"""Slices that are frozen side by side: two at once where connections are to be had, committed in order, resumable."""

import contextlib
import threading
import uuid

import pytest
import sqlalchemy as sa

from service import faults
from service.delivery.turns import OvertakenError, Turns
from service.domain.subscriber import SubscriberStatus
from service.queue import SEND_BATCH
from service.store import Database, Sealer, locks, mailings, tables
from service.store.locks import serialise_batch_ids
from tests.conftest import KEYRING
from tests.factories import CHAINS
from tests.installation import miscounted
from tests.unit.delivery.parts import Run, killed_at, wait_for_a_waiter
from tests.unit.delivery.test_planning import DiesError, chosen, planned

SLICES = 8
POINTS = ("plan-slice-numbered", "plan-slice-commit", "plan-between-slices", "plan-before-start", "plan-start-commit")


@pytest.fixture
def run(postgresql_database):
    return Run(postgresql_database, readers=40, chains=CHAINS, planned=False, batch_limit=3)


@contextlib.contextmanager
def armed(hook):
    faults.arm(hook)
    try:
        yield
    finally:
        faults.arm(None)


def planner(run, database=None):
    made = run.planner(slice_readers=5)
    return made if database is None else type(made)(database, *(getattr(made, name) for name in made.__slots__[1:]))


def everything_is_planned_once(run):
    assert run.counts() == {"pending": 40}
    assert planned(run) == chosen(run)
    assert not miscounted(run.database, run.mailing)
    assert all(run.batch(number).pending for number in run.batch_ids())
    with run.database.read() as session:
        found = mailings.get(session, run.mailing)
    assert (found.slices, found.planned_slices, found.state.value) == (SLICES, SLICES, "sending")


class Held:
    """Stands at the first passage of a point, while others go on, until it is let go."""

    def __init__(self, point):
        self._point = point
        self._first = threading.Lock()
        self.there, self.let_go = threading.Event(), threading.Event()

    def __call__(self, point):
        if point == self._point and self._first.acquire(blocking=False):
            self.there.set()
            assert self.let_go.wait(30)


@contextlib.contextmanager
def held_at(run, point):
    """A planner that stands at `point` in the block, and what came of it, after the block, in the list."""
    hold, came = Held(point), []
    thread = threading.Thread(target=lambda: came.append(planner(run).plan(run.mailing)))
    with armed(hold):
        thread.start()
        assert hold.there.wait(30)
        try:
            yield came
        finally:
            hold.let_go.set()
            thread.join(30)


def test_two_slices_are_worked_on_at_once(run):
    both = threading.Barrier(2)

    def meet(point):
        if point == "plan-slice-numbered":
            both.wait(30)

    with armed(meet):
        assert planner(run).plan(run.mailing)
    everything_is_planned_once(run)
    assert run.bell.heard(SEND_BATCH)


@pytest.fixture
def few_connections(postgresql_database):
    """The same database, for a role that may have only so many connections."""
    role, made = f"few_{uuid.uuid4().hex[:12]}", []

    def limited(connections):
        with postgresql_database.begin() as session:
            session.execute(sa.text(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT {connections}"))
            session.execute(sa.text(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"))
            session.execute(sa.text(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}"))
        url = postgresql_database.url.set(username=role).render_as_string(hide_password=False)
        made.append(Database(url, Sealer(KEYRING)))
        return made[-1]

    yield limited
    for one in made:
        one.close()
    with postgresql_database.begin() as session:
        session.execute(sa.text(f"DROP OWNED BY {role}"))
        session.execute(sa.text(f"DROP ROLE {role}"))


@pytest.mark.parametrize(("connections", "threads"), [(1, 1), (2, 1), (3, 2)])
def test_where_too_few_connections_are_to_be_had_one_slice_follows_the_other(
    run, few_connections, connections, threads
):
    seen, both = set(), threading.Barrier(threads)

    def note(point):
        if point == "plan-slice-numbered":
            seen.add(threading.get_ident())
            both.wait(30)

    with armed(note):
        assert planner(run, limited := few_connections(connections)).plan(run.mailing)
    assert len(seen) == threads
    assert limited.engine.pool.checkedin() <= 1
    everything_is_planned_once(run)


@pytest.mark.parametrize("skip", [0, 1, 4])
@pytest.mark.parametrize("point", POINTS[:3])
def test_a_planner_that_is_killed_at_any_slice_leaves_what_the_next_one_finishes(run, point, skip):
    killed_at(point, skip, lambda: planner(run).plan(run.mailing))
    goes_on_once(run)


@pytest.mark.parametrize("point", POINTS[3:])
def test_a_planner_that_is_killed_after_its_slices_leaves_what_the_next_one_finishes(run, point):
    killed_at(point, 0, lambda: planner(run).plan(run.mailing))
    goes_on_once(run)


def goes_on_once(run):
    before = planned(run)
    # The dead one's lock runs out.
    with run.database.begin() as session:
        locks.release(session, f"plan-{run.mailing}")
    assert planner(run).plan(run.mailing)
    assert before.items() <= planned(run).items()
    everything_is_planned_once(run)


@pytest.mark.parametrize("skip", [0, 1, 4])
def test_no_later_slice_is_committed_where_one_came_to_nothing(run, skip):
    passed = []

    def die(here):
        if here == "plan-slice-commit":
            passed.append(here)
            if len(passed) == skip + 1:
                raise DiesError

    with armed(die), pytest.raises(DiesError):
        planner(run).plan(run.mailing)
    with run.database.read() as session:
        assert mailings.get(session, run.mailing).planned_slices == skip
    assert not miscounted(run.database, run.mailing)
    assert planner(run).plan(run.mailing)
    everything_is_planned_once(run)


def impatient(session):
    """Wait for no lock of a planner's for longer than a moment."""
    session.execute(sa.text("SET LOCAL lock_timeout = '2s'"))


def test_whoever_numbers_a_batch_meanwhile_waits_for_no_slice_and_gets_a_number_of_his_own(run):
    with held_at(run, "plan-slice-numbered") as came, run.database.begin() as session:
        impatient(session)
        serialise_batch_ids(session)
        mine = 1 + session.scalar(sa.select(sa.func.max(tables.batches.c.id)))
        values = {"id": mine, "mailing_id": run.mailing, "chain": "en", "provider": "mine", "open": False}
        session.execute(tables.batches.insert().values(**values, skipped=0, fence=1))
    assert came == [True]
    assert run.batch(mine).provider == "mine"
    with run.database.begin() as session:
        session.execute(tables.batches.delete().where(tables.batches.c.id == mine))
    everything_is_planned_once(run)


def test_who_unsubscribes_while_a_slice_is_frozen_waits_for_nothing_and_is_planned_as_it_was_seen(run):
    before = chosen(run)
    with held_at(run, "plan-slice-numbered") as came, run.database.begin() as session:
        impatient(session)
        gone = SubscriberStatus.UNSUBSCRIBED.value
        session.execute(tables.subscribers.update().values(status=gone))
    assert came == [True]
    assert set(planned(run)) < set(before)
    with run.database.read() as session:
        excluded = mailings.get(session, run.mailing).excluded
    # Two slices had been seen; of the others nobody is mailed.
    assert dict(excluded) == {"unsubscribed": 40 - len(planned(run))}
    assert not miscounted(run.database, run.mailing)


def test_a_cancel_while_a_slice_is_frozen_waits_for_nothing(run):
    with held_at(run, "plan-slice-numbered") as came:
        run.control("cancel")
        assert run.state() == "cancelled"
    assert came == [False]
    # What the other thread had committed by then is cancelled with it.
    assert set(run.counts()) <= {"skipped"}
    assert not miscounted(run.database, run.mailing)
    run.control("retry")
    assert planner(run).plan(run.mailing)
    everything_is_planned_once(run)


def test_a_cancel_at_a_slice_s_commit_comes_after_it_and_locks_in_the_same_order(run):
    with held_at(run, "plan-slice-commit") as came:
        cancel = threading.Thread(target=run.control, args=("cancel",))
        cancel.start()
        wait_for_a_waiter(run.database)
    cancel.join(30)
    assert run.state() == "cancelled"
    assert came == [False]
    assert set(run.counts()) == {"skipped"}
    assert not miscounted(run.database, run.mailing)
    run.control("retry")
    assert planner(run).plan(run.mailing)
    everything_is_planned_once(run)


def test_turns_are_begun_and_passed_on_in_order():
    turns, committed = Turns(2, 40), []

    def work():
        while True:
            with turns.next() as number:
                if number is None:
                    return
                turns.wait(number)
                committed.append(number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert committed == list(range(2, 40))


def test_a_turn_that_comes_to_nothing_overtakes_the_later_ones_and_no_earlier_one():
    turns = Turns(0, 3)
    with turns.next() as first:
        with pytest.raises(DiesError), turns.next():
            raise DiesError
        turns.wait(first)
        with pytest.raises(OvertakenError):
            turns.wait(1)
    with turns.next() as after:
        assert after is None


def test_no_turn_is_begun_after_a_stop():
    turns = Turns(0, 3)
    with turns.next() as first:
        turns.stop()
        turns.wait(first)
    with turns.next() as after:
        assert after is None
