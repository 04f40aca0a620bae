"""The clock that all hosts share."""

import datetime as dt
from contextlib import closing

from service import clock as module
from service.clock import CommonClock
from service.store import Database
from tests.unit.store.statements import counted

NOON = dt.datetime(2019, 6, 3, 12, tzinfo=dt.UTC)


class Uptime:
    """The seconds of a machine that a test lets pass."""

    def __init__(self, monkeypatch):
        self.seconds = 1000.0
        monkeypatch.setattr(module, "suspended_monotonic", lambda: self.seconds)


def asked(statements):
    return sum("clock_timestamp" in statement for statement in statements)


def test_it_counts_on_from_the_time_that_it_was_told_whatever_the_machine_says(clock, monkeypatch):
    uptime, common = Uptime(monkeypatch), CommonClock(clock)
    assert (common.now(), common.stale) == (clock.now(), True)
    common.tell(NOON)
    clock.advance(days=3)
    uptime.seconds += 2.5
    assert (common.now(), common.stale) == (NOON + dt.timedelta(seconds=2.5), False)
    # The database's clock was set back, or another database answers.
    uptime.seconds += 10
    assert common.stale
    common.tell(NOON - dt.timedelta(hours=1))
    assert (common.now(), common.stale) == (NOON - dt.timedelta(hours=1), False)


def test_a_database_tells_it_the_time_with_what_is_asked_anyway_and_seldom(database, clock, monkeypatch):
    uptime, common = Uptime(monkeypatch), CommonClock(clock)
    url = database.url.render_as_string(hide_password=False)
    with closing(Database(url, database.sealer, clock=common)) as told, counted(told) as statements:
        for begin in (told.read, told.begin) * 3:
            with begin():
                pass
        assert asked(statements) == told.postgresql
        uptime.seconds += 11
        with told.begin() as session:
            apart = abs(common.now() - session.now())
        assert asked(statements) == (3 if told.postgresql else 0)
    # SQLite has no clock but this machine's, and this machine's is the one that was passed in.
    if database.postgresql:
        assert apart < dt.timedelta(minutes=1)
    else:
        assert common.now() == clock.now()
