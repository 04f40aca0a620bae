"""Stop, correct, continue: the rest gets the corrected issue, and the ledger knows who got which."""

import dataclasses
import datetime as dt

import pytest
import sqlalchemy as sa

from service.delivery import progress
from service.delivery.correcting import Proofreader
from service.domain.blockers import Blocker
from service.domain.content import TextStatus
from service.domain.delivery import DeliveryState
from service.domain.errors import CheckFailedError
from service.domain.weeks import Week
from service.store import issues, ledger, renditions, tables
from tests.installation import miscounted
from tests.smtp_sink import SmtpSink
from tests.unit.delivery.parts import PRESS, WEEK, Run, accepted, result
from tests.unit.delivery.test_batch_run import Worker
from tests.unit.delivery.test_interventions import stop_planning

CHAINS = ("en", "be,ru")


def correct(run, title="A corrected title", language="en", status=TextStatus.APPROVED):
    """Import the issue with another title in its first article."""
    with run.database.begin() as session:
        issue = issues.load(session, Week.parse(WEEK))
        first, *others = issue.articles
        changed = dataclasses.replace(first.texts[language], title=title, status=status)
        first = dataclasses.replace(first, texts={**first.texts, language: changed})
        later = run.now + dt.timedelta(minutes=5)
        issues.save(session, dataclasses.replace(issue, articles=(first, *others)), later)


def revisions(run):
    """Revision and state by delivery."""
    with run.database.read() as session:
        return {line.delivery: (line.revision, line.state) for line in ledger.lines(session, run.mailing)}


@pytest.fixture
def sink(tmp_path):
    with SmtpSink(tmp_path / "ledger") as made:
        yield made


def send_some(run, count):
    """So many of the first batch's readers are mailed, as a worker does it."""
    claim = run.claim()
    gated = run.gate(claim, run.due(claim)[:count]).recipients
    run.record(*map(accepted, gated))
    run.give_back(claim)
    return [one.delivery for one in gated]


def send_rest(run, tmp_path, sink):
    worker = Worker(run, tmp_path, sink)
    for _ in range(2):
        with run.database.read() as session:
            waiting = sa.select(tables.batches.c.id).where(tables.batches.c.open).order_by(tables.batches.c.id)
            numbers = list(session.execute(waiting).scalars())
        for number in numbers:
            worker = Worker(run, tmp_path, sink)
            worker.send(number)
    return worker


def test_the_rest_gets_the_corrected_issue_and_the_ledger_knows_who_got_which(database, tmp_path, sink):
    run = Run(database, readers=20, chains=CHAINS, batch_limit=5)
    first = send_some(run, 3)
    run.control("pause")
    correct(run)
    assert list(run.control("resume")) == ["en"]

    send_rest(run, tmp_path, sink)

    found = revisions(run)
    assert run.counts() == {"accepted": 20}
    assert run.state() == "sent"
    assert not miscounted(database, run.mailing)
    assert len(sink.entries()) == 17
    assert {number for number, (revision, _) in found.items() if revision == 2}.isdisjoint(first)
    with database.read() as session:
        chains = {line.delivery: line.chain for line in ledger.lines(session, run.mailing)}
        status = progress.status(session, run.mailing)
    in_english = {number for number, chain in chains.items() if chain == "en"}
    assert {number for number, (revision, _) in found.items() if revision == 2} == in_english - set(first)
    assert status.corrected
    sent_first = in_english & set(first)
    assert status.revisions["en"][2].accepted == len(in_english) - len(sent_first)
    for number in in_english - set(first):
        assert found[number] == (2, DeliveryState.ACCEPTED)


def test_a_mailing_that_goes_on_unchanged_has_one_revision(database):
    run = Run(database, readers=4)
    send_some(run, 2)
    run.control("pause")
    assert list(run.control("resume")) == []
    with database.read() as session:
        assert [one.revision for one in renditions.newest(session, run.mailing).values()] == [1]
        assert not progress.status(session, run.mailing).corrected


def test_whoever_holds_a_batch_while_the_issue_is_corrected_is_fenced_off(database):
    run = Run(database, readers=10)
    claim = run.claim()
    waiting = run.due(claim)
    run.control("pause")
    correct(run)
    run.control("resume")
    assert run.gate(claim, waiting) is None


def test_a_letter_that_comes_back_after_the_correction_is_mailed_as_corrected(database, tmp_path, sink):
    run = Run(database, readers=6)
    claim = run.claim()
    gated = run.gate(claim, run.due(claim)[:3]).recipients
    run.control("pause")
    correct(run)
    run.control("resume")
    # Three were under way: one arrived, one was put off, one was never written.
    run.record(
        accepted(gated[0]),
        result(gated[1], DeliveryState.DEFERRED, due_ms=1, outcome="transient"),
        result(gated[2], DeliveryState.PENDING),
    )
    send_rest(run, tmp_path, sink)

    found = revisions(run)
    assert run.counts() == {"accepted": 6}
    assert found[gated[0].delivery][0] == 1
    assert {revision for number, (revision, _) in found.items() if number != gated[0].delivery} == {2}
    assert not miscounted(database, run.mailing)


@pytest.mark.parametrize("status", [TextStatus.READY, TextStatus.DRAFT])
def test_a_correction_that_is_not_approved_keeps_the_mailing_paused(database, status):
    run = Run(database, readers=4)
    send_some(run, 2)
    run.control("pause")
    correct(run, status=status)
    with pytest.raises(CheckFailedError, match=rf"not approved; .*\n.*en\.md: {status.value}"):
        run.control("resume")
    assert run.state() == "paused"
    with database.read() as session:
        assert [one.revision for one in renditions.newest(session, run.mailing).values()] == [1]

    correct(run)
    assert list(run.control("resume")) == ["en"]


def test_a_correction_that_the_checks_object_to_keeps_the_mailing_paused(database):
    run = Run(database, readers=4)
    run.control("pause")
    correct(run)
    with pytest.raises(CheckFailedError, match="the subject names another week"):
        run.control("resume", proofs=Proofreader(PRESS, lambda *_: [Blocker("the subject names another week")]))
    assert run.state() == "paused"


def test_what_was_corrected_twice_is_mailed_as_corrected_last(database, tmp_path, sink):
    run = Run(database, readers=9, batch_limit=3)
    send_some(run, 1)
    for title in ("Second", "Third"):
        run.control("pause")
        correct(run, title=title)
        assert list(run.control("resume")) == ["en"]
    send_rest(run, tmp_path, sink)
    assert sorted(revision for revision, _ in revisions(run).values()) == [1] + [3] * 8
    assert not miscounted(database, run.mailing)


def test_a_cancelled_mailing_goes_on_with_the_issue_as_it_is_now(database, tmp_path, sink):
    run = Run(database, readers=20, chains=CHAINS, batch_limit=5)
    first = send_some(run, 3)
    run.control("cancel")
    correct(run, status=TextStatus.READY)
    with pytest.raises(CheckFailedError, match="not approved"):
        run.control("retry")
    assert run.state() == "cancelled"
    correct(run)

    assert run.control("retry") == 17

    send_rest(run, tmp_path, sink)
    assert run.counts() == {"accepted": 20}
    english = {one: revision for one, (revision, _) in revisions(run).items() if revision > 1 or one in first}
    assert {english[one] for one in first} == {1}
    corrected = [raw for raw in sink.messages if b"A corrected title" in raw]
    assert len(corrected) == len(english) - 3


def test_one_that_was_cancelled_before_it_was_planned_is_planned_with_the_issue_as_it_is_now(database, tmp_path, sink):
    run = Run(database, readers=40, planned=False)
    stop_planning(run, after=2)
    correct(run)

    run.control("retry")
    with database.begin() as session:
        session.execute(tables.locks.update().values(until=0))
    assert run.planner().plan(run.mailing)

    send_rest(run, tmp_path, sink)
    assert run.counts() == {"accepted": 40}
    assert len([raw for raw in sink.messages if b"A corrected title" in raw]) == 40
