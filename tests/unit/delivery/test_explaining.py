"""What a reader is told of a letter that no relay was asked about."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
import sqlalchemy as sa

from service.delivery import explain, recording
from service.domain.chains import Chain
from service.domain.mailing import MailingState
from service.domain.replies import Phase, ReplyClass
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.mail.letter import Outcome
from service.store import corrections, issues, renditions, tables
from service.store.instants import stored
from tests.unit.delivery.parts import NOW, WEEK, Run, accepted


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


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (MailingState.SCHEDULED, "is scheduled, and is planned when its time has come"),
        (MailingState.PLANNING, "is still being planned"),
        (MailingState.CANCELLED, "was cancelled before it was planned; nobody was mailed"),
    ],
)
def test_why_nothing_was_sent_yet_is_said_by_the_state_of_the_mailing(database, state, said):
    run = Run(database, readers=1, planned=False)
    with database.begin() as session:
        session.execute(tables.mailings.update().values(state=state.value))
        reader = session.scalar(sa.select(tables.subscribers.c.id))

    with database.read() as session:
        found = explain.explain(session, WEEK, reader, SubscriberStatus.ACTIVE, Chain(("en",)))
    assert found.why == f"mailing {run.mailing} {said}"


def test_of_an_issue_that_was_changed_since_the_articles_are_said_to_be_those_of_now(database):
    run = Run(database, readers=2)
    claim = run.claim()
    first_id, second_id = run.due(claim)
    (first,) = run.gate(claim, [first_id]).recipients
    run.record(accepted(first))
    run.give_back(claim)

    def told(subscriber):
        with database.read() as session:
            found = explain.explain(session, WEEK, subscriber, SubscriberStatus.ACTIVE, Chain(("en",)))
        return found.why, [one.slug for one in found.articles]

    why, articles = told(first.subscriber)
    assert why == "the relay took the mail"

    run.control("pause")
    run.now += dt.timedelta(minutes=5)
    with database.begin() as session:
        issue = issues.load(session, Week.parse(WEEK))
        issues.save(session, replace(issue, articles=issue.articles[1:]), run.now)
    run.now += dt.timedelta(minutes=5)
    assert run.control("resume") == ("en",)
    with database.begin() as session:
        newest = renditions.newest_id(session, run.mailing, "en")
    claim = run.claim()
    with database.begin() as session:
        moved = corrections.renew_batch(session, claim, newest)
    (second,) = run.gate(run.claim(moved), [second_id]).recipients
    run.record(accepted(second))

    changed = "the issue was changed after this edition was made, and the articles are those of the issue as it is now"
    assert told(first.subscriber) == (f"the relay took the mail; {changed}", articles[1:])
    # Who got the corrected one got those.
    assert told(second.subscriber) == ("the relay took the mail", articles[1:])
