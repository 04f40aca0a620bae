"""A worker that is asked to stop: it waits for the replies it is owed, gives back the rest, and frees its leases."""

from __future__ import annotations

import signal
import time

import pytest
import sqlalchemy as sa

from service.store import tables
from tests.flow.conftest import database_url
from tests.installation import audit, installed, past_dot
from tests.smtp_sink import Rule

pytestmark = pytest.mark.slow

CONNECTIONS = 3


@pytest.fixture
def slow_relay(request, tmp_path):
    """An installation whose relay takes its time after each final dot; with or without CHUNKING."""
    kind, hidden = request.param
    with (
        database_url(request, kind, tmp_path) as url,
        installed(tmp_path / "run", url, connections=CONNECTIONS, hide=hidden) as made,
    ):
        made.fill(200)
        yield made


chunking = pytest.mark.parametrize("slow_relay", [("sqlite", frozenset())], indirect=True)
both = pytest.mark.parametrize(
    "slow_relay",
    [("sqlite", frozenset()), ("postgresql", frozenset({"CHUNKING"}))],
    ids=["bdat", "data"],
    indirect=True,
)


def journals(made):
    return list((made.folder / "data" / "journals").glob("*.journal"))


def owed(made):
    """Letters past their dot and without a reply at this moment."""
    return sum(map(past_dot, journals(made)))


def held(made):
    with made.database.read() as session:
        return session.scalar(sa.select(sa.func.count()).where(tables.batches.c.lease_until > 0))


def begin(made, delay):
    worker = made.start_worker(concurrency=3)
    made.sink.set_rules(Rule("DOT", delay=delay))
    mailing = made.send()
    made.wait_for(lambda: owed(made) >= CONNECTIONS, 120)
    return worker, mailing


def finish(made, mailing):
    made.sink.set_rules()
    made.start_worker(concurrency=3)
    made.sweep()
    made.wait_until_sent(mailing, 120)
    found = audit(made, mailing)
    found.complain()
    return found


@both
def test_replies_that_come_late_are_waited_for_and_the_rest_is_free_at_once(slow_relay):
    made = slow_relay
    worker, mailing = begin(made, delay=4)

    asked = time.monotonic()
    assert worker.end(120) == 0

    assert time.monotonic() - asked < 60
    counts = made.status(mailing).counts
    assert counts.attempting == counts.uncertain == 0
    assert counts.accepted == made.taken() > 0
    assert counts.pending == 200 - counts.accepted > 0
    assert not journals(made)
    assert not held(made)
    assert finish(made, mailing).taken == 200


@chunking
def test_a_second_sigterm_changes_nothing(slow_relay):
    made = slow_relay
    worker, mailing = begin(made, delay=4)

    worker.signal(signal.SIGTERM)
    time.sleep(0.5)
    worker.signal(signal.SIGTERM)
    worker.process.wait(120)

    made.sweep()
    counts = made.status(mailing).counts
    assert counts.attempting == counts.uncertain == 0
    assert finish(made, mailing).taken == 200


@chunking
@pytest.mark.parametrize("delay", [0.5, 4])
def test_who_is_told_to_quit_gives_back_what_it_has_not_begun(slow_relay, delay):
    made = slow_relay
    worker, mailing = begin(made, delay=delay)

    asked = time.monotonic()
    worker.signal(signal.SIGQUIT)
    worker.process.wait(60)

    assert time.monotonic() - asked < 30
    counts = made.status(mailing).counts
    assert counts.attempting == counts.uncertain == 0
    assert counts.accepted == made.taken()
    assert counts.pending == 200 - counts.accepted > 100
    assert not held(made)
    assert finish(made, mailing).taken == 200


@chunking
def test_who_is_killed_while_it_waits_leaves_only_what_is_past_its_dot_uncertain(slow_relay):
    made = slow_relay
    worker, mailing = begin(made, delay=60)

    worker.signal(signal.SIGTERM)
    time.sleep(5)
    at_risk = owed(made)
    worker.kill()
    made.sweep()

    counts = made.status(mailing).counts
    assert not held(made)
    assert (counts.attempting, counts.uncertain) == (0, at_risk)
    assert finish(made, mailing).uncertain == at_risk
