import datetime as dt
import threading

import pytest

from service.domain.schedule import Schedule, WeeklySlot, WeekMode
from service.domain.weeks import Week
from service.store import slots
from service.store.slots import SlotState

NOW = dt.datetime(2019, 6, 3, 6, 0, tzinfo=dt.UTC)
SLOT = WeeklySlot(NOW, Week(2019, 22))
MONDAYS = Schedule(0, 540, "Europe/Minsk", WeekMode.ENDED, 6, NOW - dt.timedelta(days=3))


def later(**by):
    return NOW + dt.timedelta(**by)


def test_without_a_schedule_there_is_none(database):
    with database.read() as session:
        assert slots.schedule(session) is None
        assert slots.decided_until(session) is None
        assert slots.latest(session, 5) == []


def test_the_schedule_that_is_set_is_read_and_replaced(database):
    other = Schedule(6, 1080, "Europe/Warsaw", WeekMode.CURRENT, 0, NOW)
    with database.begin() as session:
        slots.set_schedule(session, MONDAYS, warned_at=NOW)
        assert slots.schedule(session) == MONDAYS
        slots.set_schedule(session, other, warned_at=NOW)
        assert slots.schedule(session, hold=True) == other
        slots.clear_schedule(session)
        assert slots.schedule(session) is None


def test_changing_the_lateness_leaves_the_rest(database):
    with database.begin() as session:
        slots.set_schedule(session, MONDAYS, warned_at=NOW)
        slots.set_lateness(session, 48)
        changed = slots.schedule(session)
    assert changed.late_hours == 48
    assert changed.since == MONDAYS.since
    assert changed.same_slots(MONDAYS)


def test_a_slot_is_entered_once_and_decided_once(database):
    with database.begin() as session:
        slots.enter(session, SLOT)
        slots.enter(session, SLOT)
        assert slots.find(session, NOW).state is SlotState.WAITING
        assert slots.waiting(session) == slots.latest(session, 5)
        assert slots.decided_until(session) is None
        assert slots.decide(session, SLOT, SlotState.RELEASED, now=later(seconds=15), mailing=7)
        assert not slots.decide(session, SLOT, SlotState.MISSED, now=later(seconds=30), reason="late")
        (row,) = slots.latest(session, 5)
        assert slots.waiting(session) == []
        assert slots.decided_until(session) == NOW
    assert (row.slot, row.state, row.mailing, row.reason) == (SLOT, SlotState.RELEASED, 7, None)
    assert row.decided_at == later(seconds=15)


def test_entering_a_decided_slot_again_leaves_it_decided(database):
    with database.begin() as session:
        slots.enter(session, SLOT)
        slots.decide(session, SLOT, SlotState.MISSED, now=NOW)
        slots.enter(session, SLOT)
        assert slots.find(session, NOW).state is SlotState.MISSED


def test_a_waiting_slot_says_what_for_and_a_decided_one_keeps_its_reason(database):
    with database.begin() as session:
        slots.enter(session, SLOT)
        slots.keep_waiting(session, SLOT, "two articles")
        assert slots.find(session, NOW).reason == "two articles"
        slots.decide(session, SLOT, SlotState.MISSED, now=NOW, reason="too late")
        slots.keep_waiting(session, SLOT, "one article")
        assert slots.find(session, NOW).reason == "too late"


def test_the_slots_of_a_week_are_found_by_it(database):
    with database.begin() as session:
        slots.enter(session, SLOT)
        assert [row.slot for row in slots.of_week(session, Week(2019, 22))] == [SLOT]
        assert slots.of_week(session, Week(2019, 23)) == []


def test_a_week_is_skipped_and_unskipped_once(database):
    with database.begin() as session:
        assert slots.skip(session, Week(2019, 23))
        assert not slots.skip(session, Week(2019, 23))
        assert slots.skipped(session, [Week(2019, 22), Week(2019, 23)]) == {Week(2019, 23)}
        assert slots.unskip(session, Week(2019, 23))
        assert not slots.unskip(session, Week(2019, 23))
        assert slots.skipped(session, [Week(2019, 23)]) == frozenset()


def test_a_moment_to_warn_is_taken_once_and_never_goes_back(database):
    with database.begin() as session:
        assert not slots.mark_warned(session, NOW)
        slots.set_schedule(session, MONDAYS, warned_at=NOW)
        assert not slots.mark_warned(session, NOW)
        assert slots.mark_warned(session, later(hours=2))
        assert not slots.mark_warned(session, later(hours=2))
        assert not slots.mark_warned(session, later(hours=1))


@pytest.mark.parametrize("processes", [8])
def test_of_many_that_decide_a_slot_at_once_one_does(database, processes):
    with database.begin() as session:
        slots.set_schedule(session, MONDAYS, warned_at=NOW)
    start = threading.Barrier(processes)
    won = []

    def decide(number):
        start.wait()
        with database.begin() as session:
            slots.enter(session, SLOT)
            if slots.decide(session, SLOT, SlotState.RELEASED, now=NOW, mailing=number):
                won.append(number)

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        (row,) = slots.latest(session, 5)
    assert [row.mailing] == won
