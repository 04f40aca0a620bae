"""The pace of a mailing that runs on two workers, changed from the command line."""

import time

import pytest

from service.domain.delivery import DeliveryState
from tests.flow.conftest import database_url
from tests.installation import audit, installed
from tests.smtp_sink import Rule


@pytest.fixture(params=["sqlite", "postgresql"])
def two_workers(request, tmp_path):
    with database_url(request, request.param, tmp_path) as url, installed(tmp_path / "run", url) as made:
        for _ in range(2):
            made.start_worker(concurrency=2)
        yield made


def rate_over(made, seconds):
    before = made.taken()
    time.sleep(seconds)
    return (made.taken() - before) / seconds


@pytest.mark.slow
def test_a_rate_that_is_set_holds_on_every_worker_within_two_seconds_up_and_down(two_workers):
    made = two_workers
    made.fill(readers=3000)
    mailing = made.send(rate=20)
    made.wait_for(lambda: made.taken() >= 20, 90)

    # Slower than one mail in a minute: every worker waits for tokens that are far away.
    made.tydzen("pace", "set", "--rate", "0.01")
    time.sleep(2)
    assert rate_over(made, 3) < 2

    made.tydzen("pace", "set", "--rate", "15")
    told, before = time.monotonic(), made.taken()
    made.wait_for(lambda: made.taken() >= before + 5)
    assert time.monotonic() - told < 5  # two, and what a busy machine needs
    assert 8 < rate_over(made, 3) < 22

    made.tydzen("pace", "set", "--unset")
    made.control("set_rate", mailing, rate=0)
    made.wait_until_sent(mailing, 60)
    audit(made, mailing).complain()


@pytest.mark.slow
def test_a_tarpit_holds_up_nobody_else_on_a_worker_with_one_process(request, tmp_path):
    rules = [Rule("RCPT", delay=3, recipient="@slow.test")]
    with database_url(request, "sqlite", tmp_path) as url, installed(tmp_path / "run", url, rules=rules) as made:
        made.start_worker(concurrency=1, batch_size=100)
        made.fill(readers=540)
        made.fill_domain("slow.test", 60)
        mailing = made.send()

        def others():
            return [entry for entry in made.sink.entries() if "@slow.test" not in entry.recipient]

        made.wait_for(lambda: made.status(mailing).mailing.state.value == "sending", 90)
        started = time.monotonic()
        made.wait_for(lambda: len(others()) == 540, 90)
        # The slow ones alone, one at a time, take three minutes; three at a time, one.
        assert made.taken() < 590, f"the others took {time.monotonic() - started:.0f} s"
        made.sink.set_rules()
        made.wait_until_sent(mailing, 60)
        found = audit(made, mailing)
        found.complain()
        assert found.states == {DeliveryState.ACCEPTED: 600}


def sessions(made, since, until):
    """Those in which the relay took a letter in that time."""
    return {entry.session for entry in made.sink.entries() if since <= entry.at < until}


@pytest.mark.slow
def test_connections_of_a_relay_that_are_set_hold_on_every_worker_within_two_seconds_down_and_up(request, tmp_path):
    letter, busy, look = 0.4, 0.5, 2.0  # what a letter takes, what a busy machine needs, and for how long is looked
    rules = [Rule("DOT", delay=letter)]
    with (
        database_url(request, "sqlite", tmp_path) as url,
        installed(tmp_path / "run", url, rules=rules, hide=frozenset({"CHUNKING"}), connections=4) as made,
    ):
        for _ in range(2):
            made.start_worker(concurrency=1, batch_size=100)
        made.fill(readers=1000)
        mailing = made.send()
        made.wait_for(lambda: len(sessions(made, time.time() - look, time.time())) == 8, 60)

        for connections in (1, 3):
            words = ("--relay", f"127.0.0.1:{made.sink.port}", "--connections", connections)
            made.tydzen("pace", "set", *words)
            # A letter that is under way then is waited for.
            since = time.time() + 2 + letter + busy
            time.sleep(since + look - time.time())
            # All that are allowed are used, by both processes, and no other one.
            assert len(sessions(made, since, since + look)) == 2 * connections

        made.sink.set_rules()
        made.wait_until_sent(mailing, 60)
        audit(made, mailing).complain()
