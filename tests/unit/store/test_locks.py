"""Named locks: held for so long, and never for longer because a clock was set back."""

from __future__ import annotations

from service.store import locks, tables


def test_a_lock_is_held_until_its_time_is_over(database):
    with database.begin() as session:
        assert locks.take(session, "sweep", 10)
    with database.begin() as session:
        assert not locks.take(session, "sweep", 10)
        session.execute(tables.locks.update().values(until=tables.locks.c.until - 11_000))
        assert locks.take(session, "sweep", 10)


def test_a_lock_that_was_taken_before_the_clock_was_set_back_is_free(database):
    with database.begin() as session:
        assert locks.take(session, "sweep", 10)
        session.execute(tables.locks.update().values(until=tables.locks.c.until + 86_400_000))
    with database.begin() as session:
        assert locks.take(session, "sweep", 10)
        assert not locks.take(session, "sweep", 10)
