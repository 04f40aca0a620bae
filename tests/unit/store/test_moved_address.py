"""A reader's new address in the middle of a mailing: what is still said of the old one counts for nothing."""

import pytest
import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.domain.subscriber import SubscriberStatus
from service.store import bounces, subscribers, suppressions, tables
from tests.unit.delivery.parts import Run, result

NEW = "moved@gmail.com"


@pytest.fixture
def run(database):
    return Run(database, readers=3)


def move(run, reader):
    with run.database.begin() as session:
        subscribers.move(session, subscribers.get(session, reader), NEW)


def suppressed(run, address):
    with run.database.read() as session:
        return suppressions.find(session, session.sealer.address_hash(address))


def reader(run, row_id):
    with run.database.read() as session:
        return subscribers.get(session, row_id)


def test_a_hard_refusal_of_the_old_address_that_was_under_way_suppresses_neither_reader_nor_new_address(run):
    one, other, _ = run.gate(run.claim()).recipients
    move(run, one.subscriber)
    run.record(*(result(each, DeliveryState.REFUSED, outcome="hard", suppress=True) for each in (one, other)))
    assert reader(run, one.subscriber).status is SubscriberStatus.ACTIVE
    assert suppressed(run, NEW) is None
    # Of who stayed, it holds.
    assert reader(run, other.subscriber).status is SubscriberStatus.BOUNCED
    assert suppressed(run, other.address) is not None


def test_soft_refusals_of_the_old_address_are_no_score_of_the_new_one(run):
    one, *_ = run.gate(run.claim()).recipients
    move(run, one.subscriber)
    run.record(result(one, DeliveryState.REFUSED, outcome="soft", soft=True))
    with run.database.read() as session:
        assert bounces.of_reader(session, one.subscriber, today=run.now.date()) == []


def test_who_moves_before_the_gate_is_mailed_at_the_new_address_with_links_of_the_new_epoch(run):
    claim = run.claim()
    ids = run.due(claim)
    with run.database.read() as session:
        row_id = session.scalar(sa.select(tables.deliveries.c.subscriber_id).where(tables.deliveries.c.id == ids[0]))
    move(run, row_id)
    (moved,) = [one for one in run.gate(claim, ids).recipients if one.subscriber == row_id]
    assert (moved.address, moved.epoch) == (NEW, 1)


def test_the_row_says_the_same_of_the_new_address_as_one_that_signs_up_with_it(run):
    with run.database.begin() as session:
        known = subscribers.find(session, run.addresses[0])
        subscribers.move(session, known, NEW)
        moved = session.execute(sa.select(tables.subscribers).where(tables.subscribers.c.id == known.id)).one()
        assert (moved.provider, moved.epoch) == ("gmail", 1)
        assert session.sealer.open(moved.id, moved.sealed) == NEW
        assert moved.address_hash == session.sealer.address_hash(NEW)
