"""Breakers with a real worker: what an operator sees, is told and does, and what goes on by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.store import publication, tables
from tests.factories import MADE_AT, OPERATORS
from tests.flow.conftest import database_url
from tests.installation import audit, installed
from tests.smtp_sink import Rule
from tests.unit.render import samples

pytestmark = pytest.mark.slow

# Letters on the wire when the breaker trips: so many connections, each with a window of four.
CONNECTIONS = 4
IN_FLIGHT = CONNECTIONS * 4


@pytest.fixture
def made(request, tmp_path):
    with (
        database_url(request, "sqlite", tmp_path) as url,
        installed(tmp_path / "run", url, connections=CONNECTIONS) as one,
    ):
        with one.database.begin() as session:
            publication.save(session, replace(samples.publication(), operators=OPERATORS), MADE_AT)
        one.start_worker(concurrency=2)
        one.start_sweeps(1)
        yield one


def test_refused_by_policy_it_pauses_and_tells_and_after_the_mend_everybody_gets_one_mail(made):
    made.sink.set_rules(Rule("RCPT", "550 5.7.26 unauthenticated mail is not accepted"))
    made.fill(300)
    mailing = made.send()
    made.wait_for(lambda: made.status(mailing).mailing.state.value == "paused")
    made.wait_for(lambda: not made.status(mailing).counts.attempting)

    status = made.json("mailing", "status", mailing)
    assert "550 5.7.26 unauthenticated mail is not accepted" in status["reason"]
    assert 20 <= status["refused"] <= 20 + IN_FLIGHT
    assert status["pending"] == 300 - status["refused"]
    assert status["relays_in_trouble"] == status["providers_left_alone"] == []
    assert not made.sink.entries()
    with made.database.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(tables.suppressions)) == 0

    made.sink.set_rules()
    made.tydzen("mailing", "resume", mailing)
    made.tydzen("mailing", "retry", mailing)
    made.wait_until_sent(mailing)

    def told():
        return sorted(entry.recipient for entry in made.sink.entries() if entry.recipient in OPERATORS)

    made.wait_for(lambda: told() == sorted(OPERATORS), 40, "the operators were not told")
    found = audit(made, mailing, only="reader")
    found.complain()
    assert found.states == {DeliveryState.ACCEPTED: 300}
    assert found.taken == 300


def test_while_the_relay_is_away_status_says_so_and_it_goes_on_alone(made):
    made.fill(300)
    mailing = made.send(rate=100)
    made.wait_for(lambda: made.taken() > 30)
    made.sink.stop()
    made.wait_for(lambda: made.json("mailing", "status", mailing)["relays_in_trouble"])

    (trouble,) = made.json("mailing", "status", mailing)["relays_in_trouble"]
    assert trouble["relay"] == f"127.0.0.1:{made.sink.port}"
    assert trouble["kind"] == "down"
    said = made.tydzen("mailing", "status", mailing).stderr
    assert f"the relay 127.0.0.1:{made.sink.port} is in trouble since" in " ".join(said.split())

    made.sink.start()
    made.wait_until_sent(mailing, 60)
    assert made.json("mailing", "status", mailing)["relays_in_trouble"] == []
    states = {state for state, _ in made.states(mailing).values()}
    assert states <= {DeliveryState.ACCEPTED, DeliveryState.UNCERTAIN}
