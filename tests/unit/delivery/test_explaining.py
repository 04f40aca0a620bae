"""What a reader is told of a letter that no relay was asked about."""

from __future__ import annotations

import datetime as dt

import pytest

from service.delivery import explain, recording
from service.domain.chains import Chain
from service.domain.replies import Phase, ReplyClass
from service.domain.subscriber import SubscriberStatus
from service.mail.letter import Outcome
from service.store import tables
from service.store.instants import stored
from tests.unit.delivery.parts import NOW, WEEK, Run


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        (1, "the mail waits here, and not at the relay: provider left alone"),
        (50, "the mail waited here, and not at the relay, until it was given up: provider left alone"),
    ],
)
def test_a_letter_that_we_held_back_is_not_said_to_be_the_relays_doing(database, hours, said):
    run = Run(database, readers=1)
    claim = run.claim()
    (one,) = run.gate(claim).recipients
    due = NOW + dt.timedelta(hours=hours)
    held = Outcome(
        *(one.delivery, one.attempt, ReplyClass.NOT_SENT, 0, None, "left alone", Phase.MAIL, ""),
        past_dot=False,
        due=due,
    )
    with database.begin() as session:
        session.execute(tables.mailings.update().values(started_at=stored(NOW)))
        recording.record(session, [held], now=NOW)

    with database.read() as session:
        found = explain.explain(session, WEEK, one.subscriber, SubscriberStatus.ACTIVE, Chain(("en",)))
    assert found.why == said
