"""Stop, correct, continue: the rest gets the corrected issue, and the ledger knows who got which."""

import dataclasses
import datetime as dt

import pytest
import sqlalchemy as sa

from service.delivery import control, progress
from service.delivery.control import Retried
from service.delivery.correcting import Proofreader
from service.delivery.editions import UnprintableError
from service.delivery.plan import Planner
from service.domain.blockers import Blocker
from service.domain.content import TextStatus
from service.domain.delivery import DeliveryState, RetryReason
from service.domain.errors import CheckFailedError
from service.domain.mailing import MailingState
from service.domain.weeks import Week
from service.store import issues, ledger, renditions, tables
from service.store.interventions import Again
from tests.factories import MADE_AT
from tests.installation import miscounted
from tests.smtp_sink import SmtpSink
from tests.unit.delivery.parts import PRESS, WEEK, Run, accepted, result
from tests.unit.delivery.test_batch_run import Worker
from tests.unit.delivery.test_interventions import stop_planning
from tests.unit.render import samples

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


def test_a_text_that_waited_for_an_approval_at_the_release_keeps_nobody_from_going_on(database, tmp_path, sink):
    run = Run(database, readers=4, planned=False)
    with database.begin() as session:
        statement = tables.texts.update().where(tables.texts.c.language == "be")
        session.execute(statement.values(status=TextStatus.READY.value, changed_at=0))
    assert run.planner().plan(run.mailing)
    # Of this edition nothing is printed before they are claimed.
    run.change_reader(0, chain="ru,en")
    send_some(run, 4)
    run.control("pause")
    run.control("resume")
    send_rest(run, tmp_path, sink)
    assert run.counts() == {"accepted": 4}


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


def foreseen(run, **more):
    with run.database.read() as session:
        proofs = Proofreader(PRESS, _nothing)
        return control.foresee_retry(session, run.mailing, _nothing, proofs=proofs, now=run.now, **more)


def _nothing(*_):
    return []


def test_a_retry_is_foreseen_as_it_goes(database):
    run = Run(database, readers=20, chains=CHAINS, batch_limit=5)
    send_some(run, 3)
    assert foreseen(run) == Retried(MailingState.SENDING, 0)
    run.control("cancel")
    assert foreseen(run) == Retried(MailingState.SENDING, 17)
    correct(run, status=TextStatus.READY)
    with pytest.raises(CheckFailedError, match="not approved"):
        foreseen(run)
    correct(run)
    correct(run, title="Выпраўлены загаловак", language="be")
    before = revisions(run)
    expected = foreseen(run)
    assert (expected.again, len(expected.corrected)) == (17, 2)
    assert (run.state(), revisions(run)) == ("cancelled", before)

    with database.begin() as session:
        proofs = Proofreader(PRESS, _nothing)
        done = control.retry(session, run.mailing, run.bell, _nothing, proofs=proofs, actor="test", now=run.now)
    assert done == expected
    assert run.state() == "sending"


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


def without_russian(run):
    """Take the Russian texts out of the issue; the issue as it was."""
    with run.database.begin() as session:
        whole = issues.load(session, Week.parse(WEEK))
        articles = [
            dataclasses.replace(one, texts={code: text for code, text in one.texts.items() if code != "ru"})
            for one in whole.articles
        ]
        left = dataclasses.replace(whole, articles=tuple(one for one in articles if one.texts))
        issues.save(session, left, run.now + dt.timedelta(minutes=5))
    return whole


def bring_back(run, whole):
    with run.database.begin() as session:
        issues.save(session, whole, run.now + dt.timedelta(minutes=9))


class Withdrawn:
    """A mailing to six, three of them readers of Russian, of whom one may not be reached; its texts may go and come."""

    def __init__(self, database, *, one=DeliveryState.ACCEPTED):
        self.run = Run(database, readers=6, chains=("en", "ru"))
        (self.russian,) = [one for one in self.run.batch_ids() if self.run.batch(one).chain == "ru"]
        claim = self.run.claim(self.russian)
        first, *others = self.run.gate(claim).recipients
        self.run.record(*map(accepted, others))
        if one is not DeliveryState.ATTEMPTING:
            reason = "policy" if one is DeliveryState.REFUSED else None
            self.run.record(result(first, one, reason=reason, due_ms=10**13 if one is DeliveryState.DEFERRED else None))
        self.run.give_back(claim)

    def withdraw(self):
        self.whole = without_russian(self.run)

    def bring_back(self):
        bring_back(self.run, self.whole)

    def reasons(self):
        """Of the letters in Russian, those that were skipped."""
        with self.run.database.read() as session:
            lines = [line for line in ledger.lines(session, self.run.mailing) if line.chain == "ru"]
        return sorted(line.reason for line in lines if line.state is DeliveryState.SKIPPED)


def test_a_chain_that_nobody_waits_in_needs_no_edition_any_more(database, tmp_path, sink):
    made = Withdrawn(database)
    made.run.control("pause")
    made.withdraw()
    assert list(made.run.control("resume")) == ["en"]
    # And once more, with nothing new.
    made.run.control("pause")
    assert list(made.run.control("resume")) == []

    send_rest(made.run, tmp_path, sink)
    assert (made.run.counts(), made.run.state()) == ({"accepted": 6}, "sent")


@pytest.mark.parametrize(
    "state", [DeliveryState.PENDING, DeliveryState.ATTEMPTING, DeliveryState.DEFERRED, DeliveryState.UNCERTAIN]
)
def test_a_chain_with_one_who_may_still_be_mailed_needs_an_edition(database, state):
    made = Withdrawn(database, one=state)
    made.run.control("pause")
    made.withdraw()
    with pytest.raises(CheckFailedError, match=r"no article .* for readers of ru any more"):
        made.run.control("resume")
    made.bring_back()
    made.run.control("resume")


def come_back_in_vain(database, tmp_path, sink):
    """One whose refusal is forgotten, and one who chose Russian since."""
    made = Withdrawn(database, one=DeliveryState.REFUSED)
    made.run.change_reader(0, chain="ru")
    made.run.control("pause")
    made.withdraw()
    assert list(made.run.control("resume")) == ["en"]
    assert made.run.control("retry") == 1
    for _ in range(2):
        send_rest(made.run, tmp_path, sink)
    return made


def test_who_comes_back_to_an_edition_that_was_withdrawn_is_not_mailed_it(database, tmp_path, sink):
    made = come_back_in_vain(database, tmp_path, sink)
    assert made.reasons() == ["no edition", "no edition"]
    assert made.run.counts() == {"accepted": 4, "skipped": 2}
    assert not miscounted(database, made.run.mailing)
    assert len(sink.messages) == 2


def test_an_edition_that_was_withdrawn_and_comes_back_is_mailed_to_who_was_left_without(database, tmp_path, sink):
    made = come_back_in_vain(database, tmp_path, sink)
    with database.begin() as session:
        # It is sent; an operator has something else to have them go on for.
        session.execute(tables.mailings.update().values(state="paused"))
    made.bring_back()

    assert set(made.run.control("resume")) == {"en", "ru"}
    send_rest(made.run, tmp_path, sink)

    assert made.run.counts() == {"accepted": 6}
    assert not miscounted(database, made.run.mailing)


def test_a_retry_asks_for_the_editions_of_those_whom_it_takes_back(database):
    made = Withdrawn(database, one=DeliveryState.REFUSED)
    made.run.control("cancel")
    made.withdraw()
    cancelled = Again(frozenset({RetryReason.CANCELLED}))
    assert (foreseen(made.run, which=cancelled).again, made.run.state()) == (3, "cancelled")
    for ask in (foreseen, lambda run: run.control("retry")):
        with pytest.raises(CheckFailedError, match=r"no article .* for readers of ru any more"):
            ask(made.run)

    assert made.run.control("retry", which=cancelled) == 3
    assert made.run.state() == "sending"


def of_russian(run):
    """State and reason of the letters to readers of Russian, in their order."""
    with run.database.read() as session:
        return [(one.state.label, one.reason) for one in ledger.lines(session, run.mailing) if one.chain == "ru"]


def test_an_edition_that_a_correction_adds_reaches_all_its_readers_who_are_there(database, tmp_path, sink):
    run = Run(database, readers=8, chains=("en", "ru"), planned=False)
    whole = without_russian(run)
    run.planner().plan(run.mailing)
    assert of_russian(run) == [("skipped", "no edition")] * 4
    run.change_reader(1, status="unsubscribed")
    run.control("pause")
    assert "ru" not in run.control("resume")
    run.control("pause")
    bring_back(run, whole)

    assert set(run.control("resume")) == {"en", "ru"}
    send_rest(run, tmp_path, sink)

    assert sorted(of_russian(run)) == [("accepted", None)] * 3 + [("skipped", "unsubscribed")]
    assert (run.counts(), run.state()) == ({"accepted": 7, "skipped": 1}, "sent")
    assert not miscounted(database, run.mailing)


def test_a_retry_of_what_was_cancelled_mails_the_editions_that_a_correction_adds(database, tmp_path, sink):
    run = Run(database, readers=8, chains=("en", "ru"), planned=False)
    whole = without_russian(run)
    run.planner().plan(run.mailing)
    send_rest(run, tmp_path, sink)
    with database.begin() as session:
        # Nobody else was left when it was cancelled.
        session.execute(tables.mailings.update().values(state="cancelled"))
    assert foreseen(run) == Retried(MailingState.CANCELLED, 0)
    bring_back(run, whole)
    assert foreseen(run, which=Again(frozenset({RetryReason.POLICY}))) == Retried(MailingState.CANCELLED, 0)
    expected = foreseen(run)
    assert (expected.state, expected.again, set(expected.corrected)) == (MailingState.SENDING, 4, {"en", "ru"})

    assert run.control("retry") == 4
    send_rest(run, tmp_path, sink)

    assert (run.counts(), run.state()) == ({"accepted": 8}, "sent")
    assert not miscounted(database, run.mailing)


def test_one_that_was_cancelled_in_mid_planning_and_has_an_edition_more_reaches_all_its_readers(
    database, tmp_path, sink
):
    run = Run(database, readers=40, chains=("en", "ru"), planned=False)
    whole = without_russian(run)
    stop_planning(run, after=20)
    assert 0 < len(of_russian(run)) < 20
    bring_back(run, whole)

    run.control("retry")
    with database.begin() as session:
        session.execute(tables.locks.update().values(until=0))


def planner_while(run, operator, *, begun=None, unprintable=None, slice_of=None):
    """A planner; the operator acts before it prints, when it could not print, or after its slice of that number."""

    class AtWork(Planner):
        def _print_all(self, planned, content):
            if begun:
                operator()
            try:
                super()._print_all(planned, content)
            except UnprintableError:
                assert unprintable
                operator()
                raise

        def _freeze_slice(self, session, planned, work, number, count):
            super()._freeze_slice(session, planned, work, number, count)
            if number == slice_of:
                session.after_commit(operator)

    made = run.planner()
    return AtWork(made.database, made.press, made.bell, made.clock, made.rate, made.batch_limit, 10)


@pytest.mark.parametrize("moment", [{"begun": True}, {"slice_of": 1}], ids=["before printing", "between slices"])
def test_a_planner_at_work_while_the_issue_is_corrected_leaves_the_rest_to_one_that_reads_it(
    database, tmp_path, sink, moment
):
    run = Run(database, readers=40, planned=False)

    def operator():
        run.control("cancel")
        correct(run)
        run.control("retry")
        # An edition that was not printed before.
        for number in range(0, 40, 4):
            run.change_reader(number, chain="en,be")

    assert not planner_while(run, operator, **moment).plan(run.mailing)
    assert run.state() == "planning"
    assert run.planner().plan(run.mailing)

    send_rest(run, tmp_path, sink)
    assert run.counts() == {"accepted": 40}
    assert not miscounted(database, run.mailing)
    assert len([raw for raw in sink.messages if b"A corrected title" in raw]) == 40


def test_a_planner_that_cannot_print_what_was_corrected_meanwhile_cancels_nothing(database):
    run = Run(database, readers=4, planned=False)
    with database.begin() as session:
        issues.save(session, samples.issue(subjects={"en": "A subject with a \x07 bell"}), MADE_AT)

    def operator():
        run.control("cancel")
        with database.begin() as session:
            issues.save(session, samples.issue(), run.now)
        run.control("retry")

    assert not planner_while(run, operator, unprintable=True).plan(run.mailing)
    assert run.state() == "planning"
    assert run.planner().plan(run.mailing)
