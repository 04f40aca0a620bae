"""Claims exclude each other, what is due is taken, and what is left is rung for again."""

import threading

import pytest
import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.domain.mailing import MailingState
from service.store import batches, mailings, tables
from service.store.instants import stored
from tests.installation import miscounted
from tests.unit.delivery.parts import Run, accepted, result, wait_for_a_waiter


@pytest.fixture
def run(database):
    return Run(database, readers=4)


def to_ring(run, quiet=60.0, limit=100):
    with run.database.begin() as session:
        return batches.to_ring(session, now_ms=stored(run.now), quiet_seconds=quiet, limit=limit)


def test_of_many_threads_that_claim_a_batch_one_gets_it(run):
    start = threading.Barrier(8)
    claims = []

    def claim():
        start.wait()
        claims.append(run.claim())

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [one.fence for one in claims if one is not None] == [1]


def test_a_lease_that_is_over_lets_the_next_one_claim_with_a_higher_fence(run):
    assert run.claim(lease=0).fence == 1
    assert run.claim().fence == 2
    assert run.claim() is None


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_no_batch_of_a_mailing_that_is_not_sending_is_claimed(run, verb):
    run.control(verb)
    assert run.claim() is None


def test_a_batch_that_is_not_there_is_not_claimed(run):
    assert run.claim(12345) is None


def test_a_deferred_delivery_is_due_at_its_time_and_no_earlier(run):
    claim = run.claim()
    first, *others = run.gate(claim).recipients
    in_a_minute = stored(run.now) + 60_000
    run.record(result(first, DeliveryState.DEFERRED, due_ms=in_a_minute), *map(accepted, others))
    run.give_back(claim)
    assert run.batch(claim.batch).due_at == in_a_minute
    assert run.claim() is None
    assert to_ring(run, quiet=0) == []

    run.now = run.now.fromtimestamp(in_a_minute / 1000, run.now.tzinfo)

    assert to_ring(run, quiet=0) == [claim.batch]
    again = run.claim()
    assert run.due(again) == [first.delivery]
    assert run.counts() == {"accepted": 3, "pending": 1}
    (second,) = run.gate(again).recipients
    assert (second.delivery, second.attempt) == (first.delivery, 2)


def test_giving_back_closes_a_batch_that_is_done_and_only_then(run):
    claim = run.claim()
    gated = run.gate(claim).recipients
    run.record(*map(accepted, gated[:3]))
    assert not run.give_back(claim)
    assert run.batch(claim.batch).open

    again = run.claim()
    run.record(accepted(gated[3]))
    assert run.give_back(again)
    assert run.claim() is None


def test_what_is_left_of_a_batch_that_is_given_back_is_rung_for_at_once(run):
    claim = run.claim()
    assert to_ring(run) == []
    gated = run.gate(claim).recipients
    run.record(*map(accepted, gated[:3]), result(gated[3], DeliveryState.PENDING))

    run.give_back(claim)

    assert to_ring(run) == [claim.batch]


def test_who_has_lost_the_claim_gives_nothing_back(run):
    stale = run.claim(lease=0)
    run.claim()
    run.give_back(stale)

    assert run.batch(stale.batch).lease_until > 0
    assert run.claim() is None


def test_a_batch_is_rung_again_only_after_a_quiet_minute(run):
    claim = run.claim(lease=0)
    with run.database.begin() as session:
        session.execute(tables.batches.update().values(rung_at=0))
    assert to_ring(run) == [claim.batch]
    assert to_ring(run) == []
    with run.database.begin() as session:
        session.execute(tables.batches.update().values(rung_at=tables.batches.c.rung_at - 61_000))
    assert to_ring(run) == [claim.batch]


def test_a_batch_in_somebodys_hands_is_not_rung(run):
    run.claim()
    with run.database.begin() as session:
        session.execute(tables.batches.update().values(rung_at=0))
    assert to_ring(run) == []


def test_a_few_are_rung_at_a_time(database):
    run = Run(database, readers=10, batch_limit=1)
    with database.begin() as session:
        batches.forget_rings(session, run.mailing)
    first = to_ring(run, limit=4)
    assert len(first) == 4
    assert not set(first) & set(to_ring(run, limit=4))


def test_a_lease_is_renewed_only_while_it_runs_and_the_mailing_sends(run):
    def renew(claim):
        with run.database.begin() as session:
            return batches.renew(session, claim, 60)

    stale = run.claim(lease=0)
    assert not renew(stale)
    claim = run.claim()
    assert renew(claim)
    assert not renew(stale)
    run.control("pause")
    assert not renew(claim)


def test_taking_what_is_due_beside_a_cancel_does_not_deadlock(postgresql_database):
    run = Run(postgresql_database, readers=4)
    claim = run.claim()
    gated = run.gate(claim).recipients
    run.record(*(result(one, DeliveryState.DEFERRED, due_ms=1) for one in gated))
    answers = []
    with run.database.begin() as session:
        mailings.lock(session, run.mailing)
        held = sa.select(tables.batches.c.id).where(tables.batches.c.mailing_id == run.mailing)
        session.execute(held.with_for_update()).all()
        thread = threading.Thread(target=lambda: answers.append(run.due(claim)))
        thread.start()
        wait_for_a_waiter(run.database)
        waiting = tables.deliveries.c.state == int(DeliveryState.DEFERRED)
        session.execute(tables.deliveries.update().where(waiting).values(at=1))
        mailings.move(session, run.mailing, MailingState.CANCELLED, now=run.now)
    thread.join()

    assert len(answers[0]) == 4
    assert not miscounted(run.database, run.mailing)
