"""A ring that is known to be lost leaves what it was for due at once; one that was heard is waited for."""

import datetime as dt

import pytest

from service.delivery import notices as delivery_notices
from service.domain.chains import Chain
from service.queue import ANSWER_SIGNUP, SEND_BATCH, ring_after_commit
from service.store import batches, notices, rings, signups, tables
from service.store.instants import stored
from tests.fakes import FakeBell
from tests.unit.delivery.parts import Run
from tests.unit.delivery.post import ADDRESS


class World:
    """A mailing of three batches, a notice and a sign-up, made at this moment, and a bell that may be away."""

    def __init__(self, database):
        self.database, self.bell = database, FakeBell()
        self.run = Run(database, readers=3, batch_limit=1)

    def now(self):
        """A moment after what was just made."""
        return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)

    def ring(self, limit=8):
        """As the sweep does; the batches."""
        with self.database.begin() as session:
            found = batches.to_ring(session, now_ms=stored(self.now()), quiet_seconds=60, limit=limit)
            for batch in found:
                ring_after_commit(session, self.bell, SEND_BATCH, batch)
        return sorted(found)

    def post(self):
        """As the site does; the notice and the sign-up."""
        now = dt.datetime.now(dt.UTC)
        with self.database.begin() as session:
            made = delivery_notices.enqueue(
                session, self.bell, "slot-missed", once="1", address=ADDRESS, language="en", parameters={}, now=now
            )
            asked = signups.add(session, ADDRESS, Chain(("en",)), text_version=1, now=now)
            ring_after_commit(session, self.bell, ANSWER_SIGNUP, asked)
        return [made], [asked]

    def due(self):
        with self.database.begin() as session:
            return notices.due(session, self.now()), signups.due(session, self.now())


@pytest.fixture
def world(database):
    made = World(database)
    with database.begin() as session:
        session.execute(tables.batches.update().values(rung_at=0))
    return made


def test_what_was_rung_and_heard_is_not_rung_again_at_once(world):
    assert world.ring() == world.run.batch_ids()
    world.post()
    assert world.ring() == []
    assert world.due() == ([], [])


def test_what_was_rung_in_vain_is_rung_again_at_once(world):
    world.bell.away = True
    assert world.ring() == world.ring() == world.run.batch_ids()
    posted = world.post()
    world.bell.away = False
    assert world.ring() == world.run.batch_ids()
    assert world.due() == posted
    # Now somebody has heard of it.
    assert world.ring() == []
    assert world.due() == ([], [])


def test_what_was_rung_a_moment_ago_is_doubted_a_moment_later(world):
    def doubt():
        with world.database.begin() as session:
            rings.doubt(session, older_than_seconds=5)

    rung = world.ring()
    posted = world.post()
    doubt()
    assert world.ring() == []
    assert world.due() == ([], [])
    with world.database.begin() as session:
        for table, column in ((tables.batches, "rung_at"), (tables.notices, "rung_at"), (tables.signups, "due_at")):
            session.execute(table.update().values({column: table.c[column] - 5_000}))
    doubt()
    assert world.ring() == rung
    assert world.due() == posted


def test_a_broker_that_lost_one_hint_may_have_lost_what_it_held_and_what_is_in_hand_is_left_alone(world):
    posted = world.post()
    first, second, third = world.run.batch_ids()
    assert world.ring(limit=2) == [first, second]
    assert world.run.claim(second)
    world.bell.away = True
    assert world.ring() == [third]
    rung_at = world.run.batch(second).rung_at
    world.bell.away = False
    assert world.ring() == [first, third]
    assert world.due() == posted
    assert world.run.batch(second).rung_at == rung_at > 0
