"""Soft refusals over several issues suppress a reader, and only the address that they were said of."""

import datetime as dt

import pytest
import sqlalchemy as sa

from service.delivery import recording, release
from service.domain.delivery import DeliveryState
from service.domain.replies import Phase, ReplyClass
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.mail.letter import Outcome
from service.store import Database, bounces, issues, subscribers, suppressions
from service.store.departures import DepartureLog, Step
from service.store.engine_tables import bounces as table
from tests.factories import JOINED, MADE_AT
from tests.growth import sums
from tests.unit.delivery.parts import Run
from tests.unit.render import samples


@pytest.fixture
def run(database, tmp_path):
    log = DepartureLog(tmp_path / "departures.log")
    made = Run(Database(database.url.render_as_string(hide_password=False), database.sealer, departures=log), readers=2)
    yield made
    made.database.close()


def soft(recipient, *, said="mailbox full", reply_class=ReplyClass.SOFT):
    return Outcome(
        recipient.delivery, recipient.attempt, reply_class, 452, "4.2.2", said, Phase.RCPT, "relay", past_dot=False
    )


def taken(recipient):
    return Outcome(recipient.delivery, recipient.attempt, ReplyClass.ACCEPTED, 250, None, "", Phase.DOT, "relay", True)


def hard(recipient):
    return soft(recipient, reply_class=ReplyClass.HARD)


def record(run, *outcomes):
    with run.database.begin() as session:
        recording.record(session, outcomes, now=run.now)


def letters(run):
    """The readers of the present mailing, gated, in the order of `run.addresses`."""
    run.held = run.claim(batch=run.batch_ids()[-1])
    found = run.gate(run.held).recipients
    return sorted(found, key=lambda one: run.addresses.index(one.address) if one.address in run.addresses else 9)


def next_issue(run, **later):
    """Time passes, and the next issue goes out."""
    run.now += dt.timedelta(**(later or {"days": 7}))
    week = str(Week.of(run.now.date()))
    with run.database.begin() as session:
        issues.save(session, samples.issue(week=Week.parse(week)), MADE_AT)
        run.mailing = release.send(session, week, run.bell, lambda *_: [], actor="test", now=run.now)
    run.planner().plan(run.mailing)


def reader(run, number):
    with run.database.read() as session:
        found = subscribers.find(session, run.addresses[number])
        return found, suppressions.find(session, found.address_hash)


def evidence(run):
    with run.database.read() as session:
        return session.execute(sa.select(table).order_by(table.c.day)).all()


def departed(run):
    return list(run.database._departures.read())


def test_the_third_issue_that_finds_a_mailbox_full_suppresses_its_reader_alone(run):
    for number in range(3):
        if number:
            next_issue(run)
        full, other = letters(run)
        record(run, soft(full), taken(other))
        found, suppressed = reader(run, 0)
        if number < 2:
            assert (found.status, suppressed) == (SubscriberStatus.ACTIVE, None)

    assert found.status is SubscriberStatus.BOUNCED
    assert suppressed.reason == "bounced"
    assert reader(run, 1)[0].status is SubscriberStatus.ACTIVE
    assert [(row.code, row.enhanced, row.reply) for row in evidence(run)] == [(452, "4.2.2", "mailbox full")] * 3
    # A restored backup does not try the address again.
    assert [(one.step, one.address_hash) for one in departed(run)] == [(Step.BOUNCED, found.address_hash)]
    # Two soft refusals count nothing, the third once.
    week = str(Week.of(run.now.date()))
    assert sums(run.database)[week, "en"] == {"bounced": 1}


def test_a_mail_that_was_taken_in_between_clears_the_score(run):
    for number, taken_now in enumerate((False, False, True, False, False)):
        if number:
            next_issue(run)
        one, _ = letters(run)
        record(run, taken(one) if taken_now else soft(one))

    assert reader(run, 0)[1] is None
    next_issue(run)
    record(run, soft(letters(run)[0]))
    assert reader(run, 0)[1] is not None


def test_a_day_scores_once_however_often_it_refuses(run):
    one, _ = letters(run)
    record(run, soft(one))
    for minutes in (10, 300):
        run.now += dt.timedelta(minutes=minutes)
        (again,) = run.gate(run.held).recipients
        record(run, soft(again))
    assert len(evidence(run)) == 1


def test_an_issue_that_is_put_off_for_two_days_is_one_issue(run):
    one, _ = letters(run)
    record(run, soft(one))
    run.now += dt.timedelta(hours=47)
    (again,) = run.gate(run.held).recipients
    record(run, soft(again))
    next_issue(run, days=14)
    record(run, soft(letters(run)[0]))

    assert [row.mailing_id for row in evidence(run)] == [1, 1, run.mailing]
    assert reader(run, 0)[1] is None


@pytest.mark.parametrize("refusal", [soft, hard])
def test_what_was_said_of_an_old_address_does_not_harm_the_new_one(run, refusal):
    one, _ = letters(run)
    with run.database.begin() as session:
        moved = session.sealer.seal(one.subscriber, "moved@example.test")
        values = {"sealed": moved, "address_hash": session.sealer.address_hash("moved@example.test"), "epoch": 1}
    run.change_reader(0, **values)
    run.addresses[0] = "moved@example.test"

    record(run, refusal(one))

    found, suppressed = reader(run, 0)
    assert (found.status, suppressed) == (SubscriberStatus.ACTIVE, None)
    assert not evidence(run)
    assert run.states()[one.delivery] in {DeliveryState.REFUSED, DeliveryState.DEFERRED}
    # What is said of the new address counts.
    next_issue(run)
    (again,) = (letter for letter in letters(run) if letter.address == "moved@example.test")
    assert again.epoch == 1
    record(run, refusal(again))
    assert reader(run, 0)[1] is not None or len(evidence(run)) == 1


def test_the_score_of_an_old_address_does_not_count_against_the_new_one(run):
    for number in range(3):
        if number:
            next_issue(run)
        if number == 2:
            run.change_reader(0, epoch=1)
        record(run, soft(letters(run)[0]))
    assert reader(run, 0)[1] is None


def test_an_erased_reader_leaves_no_score(run):
    one, _ = letters(run)
    record(run, soft(one))
    with run.database.begin() as session:
        subscribers.erase(session, one.subscriber, week=JOINED)
    assert not evidence(run)


def test_evidence_is_forgotten_in_time_and_its_words_sooner(run):
    for number in range(2):
        if number:
            next_issue(run)
        record(run, soft(letters(run)[0]))
    prune(run, days=2)
    assert [row.reply for row in evidence(run)] == [None, "mailbox full"]
    assert [row.enhanced for row in evidence(run)] == ["4.2.2", "4.2.2"]
    prune(run, days=180)
    assert [row.reply for row in evidence(run)] == []


def test_an_acceptance_clears_the_evidence_before_the_link_to_deliveries_is_cut(run):
    record(run, soft(letters(run)[0]))
    next_issue(run)
    record(run, taken(letters(run)[0]))
    next_issue(run)
    record(run, soft(letters(run)[0]))

    assert prune(run, days=1) == 1

    assert [row.mailing_id for row in evidence(run)] == [run.mailing]


def prune(run, **later):
    run.now += dt.timedelta(**later)
    with run.database.begin() as session:
        return bounces.prune(session, now=run.now)


def test_a_disk_that_takes_no_departure_keeps_nobody_from_being_suppressed(database, tmp_path):
    folder = tmp_path / "file"
    folder.write_text("not a folder")
    full = Database(
        database.url.render_as_string(hide_password=False), database.sealer, departures=DepartureLog(folder / "log")
    )
    run = Run(full, readers=1)
    record(run, hard(letters(run)[0]))
    assert reader(run, 0)[1] is not None
    full.close()
