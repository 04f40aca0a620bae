"""Outcomes are recorded once, by their attempt's id, whatever happened meanwhile."""

import datetime as dt
import threading

import pytest
import sqlalchemy as sa

from service.domain.delivery import DeliveryState, Hindrance
from service.domain.subscriber import SubscriberStatus
from service.store import batches, gate, outcomes, subscribers, suppressions, tables
from service.store.instants import stored
from tests.factories import JOINED
from tests.installation import miscounted
from tests.unit.delivery.parts import Run, accepted, result, wait_for_a_waiter

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def run(database):
    return Run(database, readers=4)


def attempts(run):
    with run.database.read() as session:
        return session.execute(sa.select(tables.attempts)).all()


def take_back(run, claim, ids):
    with run.database.begin() as session:
        outcomes.take_back(session, claim.batch, ids, sender=run.sender, now_ms=stored(run.now))


def test_an_outcome_recorded_twice_counts_once(run):
    claim = run.claim()
    one, other, *_ = run.gate(claim).recipients
    refused = result(other, DeliveryState.REFUSED, reason="policy", code=550)
    for _ in range(2):
        run.record(accepted(one), refused)

    assert run.counts() == {"accepted": 1, "refused": 1, "attempting": 2}
    assert len(attempts(run)) == 1
    assert not miscounted(run.database, run.mailing)


def test_the_outcome_of_an_earlier_attempt_changes_nothing(run):
    claim = run.claim()
    first, *_ = run.gate(claim).recipients
    run.record(result(first, DeliveryState.PENDING))
    (second,) = run.gate(claim).recipients
    assert second.attempt == 2

    run.record(accepted(first))

    assert run.counts() == {"attempting": 4}


def kept_back(recipient, reason, due):
    """Gated, and not given to the wire."""
    return result(recipient, DeliveryState.DEFERRED, outcome="not_sent", due_ms=stored(due), reason=reason)


def test_who_repeats_that_a_letter_was_kept_back_takes_it_from_nobody_who_has_gated_it_since(run):
    claim = run.claim()
    first, *_ = run.gate(claim).recipients
    late = kept_back(first, Hindrance.PROVIDER, run.now + MINUTE)
    run.record(late)
    run.give_back(claim)
    run.now += 2 * MINUTE
    other = run.register(host="another")
    (again,) = run.gate(run.claim(sender=other), sender=other).recipients
    assert (again.delivery, again.attempt) == (first.delivery, 2)

    # The answer to its commit was lost; now the database is back, and it tries again.
    run.record(late)
    assert run.counts() == {"attempting": 4}
    run.record(accepted(again))
    assert run.counts() == {"accepted": 1, "attempting": 3}
    assert not miscounted(run.database, run.mailing)


@pytest.mark.parametrize("hindrance", Hindrance)
def test_a_letter_that_was_kept_back_is_untried_until_a_relay_has_said_no(run, hindrance):
    claim = run.claim()
    first, *_ = run.gate(claim).recipients
    assert first.untried
    later = run.now + MINUTE
    for attempt, said, untried in (
        (2, kept_back(first, hindrance, later), True),
        (3, result(first._replace(attempt=2), DeliveryState.PENDING, outcome="not_sent"), True),
        (4, result(first._replace(attempt=3), DeliveryState.DEFERRED, due_ms=stored(later), reason="transient"), False),
        (5, kept_back(first._replace(attempt=4), hindrance, later), False),
        (6, result(first._replace(attempt=5), DeliveryState.PENDING, outcome="not_sent"), False),
    ):
        run.record(said)
        run.now = later = later + 2 * MINUTE
        (again,) = run.gate(claim).recipients
        assert (again.attempt, again.untried) == (attempt, untried)


@pytest.mark.parametrize(
    "state", [DeliveryState.ACCEPTED, DeliveryState.REFUSED, DeliveryState.DEFERRED, DeliveryState.PENDING]
)
def test_what_was_uncertain_is_decided_by_a_later_outcome_of_the_same_attempt(run, state):
    claim = run.claim()
    one, *_ = run.gate(claim).recipients
    run.record(result(one, DeliveryState.UNCERTAIN, reason="host away"))
    assert run.counts() == {"attempting": 3, "uncertain": 1}

    run.record(result(one, state, due_ms=5 if state is DeliveryState.DEFERRED else None))

    assert run.counts() == {"attempting": 3, state.label: 1}
    assert not miscounted(run.database, run.mailing)
    # One row of evidence for the attempt, the last word.
    assert [row.outcome for row in attempts(run)] == (["uncertain"] if state in {
        DeliveryState.ACCEPTED, DeliveryState.PENDING} else [state.label])  # fmt: skip


@pytest.mark.parametrize("state", [DeliveryState.REFUSED, DeliveryState.UNCERTAIN, DeliveryState.DEFERRED])
def test_what_was_accepted_stays_so(run, state):
    claim = run.claim()
    one, *_ = run.gate(claim).recipients
    run.record(accepted(one))
    run.record(result(one, state))

    assert run.counts() == {"attempting": 3, "accepted": 1}
    assert not attempts(run)


def test_a_hard_refusal_suppresses_the_address_and_the_reader_counts_as_bounced(run):
    claim = run.claim()
    one, *_ = run.gate(claim).recipients
    run.record(result(one, DeliveryState.REFUSED, reason="hard", suppress=True))

    with run.database.read() as session:
        found = subscribers.find(session, one.address)
        assert found.status is SubscriberStatus.BOUNCED
        assert suppressions.is_suppressed(session, found.address_hash)


@pytest.mark.parametrize("status", [SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.COMPLAINED])
def test_whoever_left_while_the_letter_was_under_way_is_not_made_a_bounce(run, status):
    claim = run.claim()
    one, *_ = run.gate(claim).recipients
    run.change_reader(run.addresses.index(one.address), status=status.value)
    run.record(result(one, DeliveryState.REFUSED, reason="hard", suppress=True))

    with run.database.read() as session:
        assert subscribers.find(session, one.address).status is status


def test_an_erased_readers_outcome_is_still_counted(run):
    claim = run.claim()
    one, *_ = run.gate(claim).recipients
    with run.database.begin() as session:
        subscribers.erase(session, one.subscriber, week=JOINED)
    run.record(result(one, DeliveryState.REFUSED, reason="hard", suppress=True))

    assert run.counts() == {"attempting": 3, "refused": 1}


def test_a_group_whose_gate_nobody_knows_of_is_taken_back_and_only_that_group(run):
    claim = run.claim()
    ids = run.due(claim)
    run.gate(claim, ids[:1])
    run.gate(claim, ids[1:3])

    take_back(run, claim, ids[1:4])

    assert run.counts() == {"attempting": 1, "pending": 3}
    assert not miscounted(run.database, run.mailing)
    assert {one.attempt for one in run.gate(claim).recipients} == {1, 2}


def test_a_gate_that_nobody_knows_of_is_taken_back_though_its_host_was_given_up_meanwhile(run):
    claim = run.claim()
    ids = run.due(claim)
    first, *_ = run.gate(claim, ids[:1]).recipients
    run.record(accepted(first))
    lost = run.gate(claim, ids[1:3]).recipients
    run.give_back(claim)
    run.record(*(result(one, DeliveryState.UNCERTAIN, reason="host away") for one in lost))
    claim = run.claim()
    run.record(*map(accepted, run.gate(claim, ids[3:]).recipients))
    run.give_back(claim)
    assert run.counts() == {"accepted": 2, "uncertain": 2}
    assert not run.batch(claim.batch).open

    with run.database.begin() as session:
        assert outcomes.take_back(session, claim.batch, ids[1:3], sender=run.sender, now_ms=stored(run.now))
        batches.settle(session, [claim.batch])

    assert run.counts() == {"accepted": 2, "pending": 2}
    assert not miscounted(run.database, run.mailing)
    assert run.batch(claim.batch).open
    assert [one.attempt for one in run.gate(run.claim(), ids[1:3]).recipients] == [2, 2]


def test_what_another_sender_has_gated_is_not_taken_back(run):
    claim = run.claim()
    other = run.register()
    ids = run.due(claim)
    run.gate(claim, ids, sender=other)

    take_back(run, claim, ids)

    assert run.counts() == {"attempting": 4}


def test_taking_back_waits_for_a_gate_that_the_server_is_still_committing(postgresql_database):
    run = Run(postgresql_database, readers=4)
    claim = run.claim()
    ids = run.due(claim)
    with run.database.begin() as session:
        gate.pass_gate(session, claim, ids, sender=run.sender, lease_seconds=60, now_ms=stored(run.now))
        thread = threading.Thread(target=take_back, args=(run, claim, ids))
        thread.start()
        wait_for_a_waiter(run.database)
    thread.join()

    assert run.counts() == {"pending": 4}
    assert not miscounted(run.database, run.mailing)
