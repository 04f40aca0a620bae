"""What every bell promises, the real one over Valkey and the fake one of the unit tests."""

from __future__ import annotations

import time

import pytest
from celery import Celery

from service.queue import (
    BULK,
    NOTICES,
    SEND_BATCH,
    SEND_NOTICE,
    CeleryBell,
    celery_settings,
    ring_after_commit,
    waiting,
)
from tests.fakes import FakeBell


@pytest.fixture(params=["fake", "celery"])
def bell(request):
    if request.param == "fake":
        return FakeBell()
    app = Celery("tydzen")
    app.conf.update(celery_settings(request.getfixturevalue("valkey").url))
    return CeleryBell(app)


@pytest.fixture
def broken(bell, request):
    """The same bell, whose broker is gone."""
    if isinstance(bell, FakeBell):
        bell.away = True
    else:
        request.getfixturevalue("valkey").kill()
    return bell


def test_a_ring_that_was_heard_says_so(bell):
    assert bell.ring(SEND_NOTICE, 7) is True
    assert bell.ring(SEND_BATCH, 1, 2) is True


def test_a_lost_ring_says_so_raises_nothing_and_takes_no_time(broken):
    started = time.monotonic()
    assert [broken.ring(SEND_NOTICE, number) for number in range(20)] == [False] * 20
    assert time.monotonic() - started < 5


def test_ringing_after_commit_survives_a_lost_hint(sqlite_database, broken):
    with sqlite_database.begin() as session:
        ring_after_commit(session, broken, SEND_NOTICE, 7)


@pytest.mark.parametrize(
    ("rung", "found"),
    [
        ((), {NOTICES: 0, BULK: 0}),
        ((SEND_BATCH, SEND_BATCH), {NOTICES: 0, BULK: 2}),
        ((SEND_NOTICE,), {NOTICES: 1, BULK: 0}),
        ((SEND_NOTICE, SEND_BATCH), {NOTICES: 1, BULK: 1}),
    ],
)
def test_hints_that_wait_are_counted_also_where_the_other_queue_is_empty(valkey, rung, found):
    app = Celery("tydzen")
    app.conf.update(celery_settings(valkey.url))
    for job in rung:
        assert CeleryBell(app).ring(job, 7)
    assert waiting(app) == found
