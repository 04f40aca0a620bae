"""Readers who chose other languages since the planning: which edition the batch gets that was made for them."""

import dataclasses
import datetime as dt
import email
import email.policy
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from service import faults
from service.domain.chains import Chain
from service.domain.content import TextStatus
from service.domain.delivery import DeliveryState
from service.domain.weeks import Week
from service.store import issues, ledger, subscribers, tables
from tests.factories import JOINED
from tests.smtp_sink import Rule, SmtpSink
from tests.unit.delivery.parts import WEEK, Run
from tests.unit.delivery.worker import Worker


class Moved:
    """A mailing to two, of whom one chose other languages, and waits in a batch of her own without an edition.

    The other one's provider wants to get the letter later.
    """

    def __init__(self, database, folder, sink):
        self.run, self.folder, self.sink = Run(database, readers=2), folder, sink
        stays, moves = self.run.addresses
        with database.begin() as session:
            subscribers.set_chain(session, subscribers.find(session, moves).id, Chain(("ru", "en")), week=JOINED)
        sink.set_rules(Rule("RCPT", "451 4.7.1 later", recipient=stays))
        self.send()
        self.batch = self.run.batch_ids()[-1]

    def send(self, *batch):
        worker = Worker(self.run, self.folder, self.sink)
        worker.dispatcher.follow_seconds = 0
        worker.send(*batch)

    @contextmanager
    def between_claim_and_preparing(self, happens):
        def meanwhile(name):
            if name == "after-claim":
                faults.arm(None)
                # In a thread of its own: another worker has another loop.
                with ThreadPoolExecutor(1) as other:
                    other.submit(happens).result(60)

        faults.arm(meanwhile)
        try:
            yield
        finally:
            faults.arm(None)

    def correct(self, *, status=TextStatus.APPROVED):
        with self.run.database.begin() as session:
            issue = issues.load(session, Week.parse(WEEK))
            articles = tuple(
                dataclasses.replace(
                    article,
                    texts={
                        language: dataclasses.replace(text, title="Corrected", status=status)
                        for language, text in article.texts.items()
                    },
                )
                for article in issue.articles
            )
            changed = dataclasses.replace(issue, articles=articles)
            issues.save(session, changed, self.run.now + dt.timedelta(minutes=5))

    def approve(self):
        with self.run.database.begin() as session:
            issues.approve(session, Week.parse(WEEK), None, self.run.now + dt.timedelta(minutes=6))

    def in_the_ledger(self):
        """State and revision of the letter to who moved."""
        with self.run.database.read() as session:
            (line,) = [one for one in ledger.lines(session, self.run.mailing) if str(one.chain) == "ru,en"]
        return line.state, line.revision


@pytest.fixture
def moved(database, tmp_path):
    with SmtpSink(tmp_path / "ledger") as sink:
        yield Moved(database, tmp_path, sink)


def test_who_moved_waits_while_the_issue_is_corrected(moved):
    def begins_to_correct():
        moved.run.control("pause")
        moved.correct(status=TextStatus.READY)

    with moved.between_claim_and_preparing(begins_to_correct):
        moved.send(moved.batch)
    assert moved.run.counts() == {"deferred": 1, "pending": 1}

    moved.approve()
    moved.run.control("resume")
    moved.send(moved.batch)
    assert moved.in_the_ledger() == (DeliveryState.ACCEPTED, 1)
    (letter,) = moved.sink.messages
    assert (
        "Corrected" in email.message_from_bytes(letter, policy=email.policy.default).get_body(("plain",)).get_content()
    )


def test_who_has_slept_beyond_its_lease_changes_no_edition_that_another_one_sent(moved):
    def another_sends_and_the_issue_is_corrected():
        with moved.run.database.begin() as session:
            session.execute(tables.batches.update().values(lease_until=0))
        moved.send(moved.batch)
        moved.run.control("pause")
        moved.correct()
        moved.run.control("resume")

    with moved.between_claim_and_preparing(another_sends_and_the_issue_is_corrected):
        moved.send(moved.batch)
    assert moved.in_the_ledger() == (DeliveryState.ACCEPTED, 1)
    assert len(moved.sink.messages) == 1
