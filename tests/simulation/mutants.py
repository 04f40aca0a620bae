"""Errors put into the engine on purpose: the simulator must find each, or it proves nothing.

`python -m tests.simulation --mutants` tells after how many seeds it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from unittest import mock

import sqlalchemy as sa

from service.delivery import dispatch
from service.domain.replies import Phase, Reply, ReplyClass
from service.mail import autopsy, conversation, journal, pen, transaction, wire
from service.mail.autopsy import Fate, JournalContents, Verdict
from service.store import corrections, gate, outcomes, renditions
from service.store.tables import batches, mailings
from tests.simulation.seed import simulate
from tests.simulation.templates import Shelf


def _nothing(*_, **__):
    return None


def _yes(_path):
    return True


def _never():
    return 0.0


def _eligible(*conditions: str) -> sa.TextClause:
    text = gate._SQLITE_ELIGIBLE.text
    for condition in conditions:
        assert condition in text
        text = text.replace(condition, "")
    return sa.text(text)


def gate_without_readers() -> AbstractContextManager:
    """The gate asks neither whether the reader is active nor whether the address is suppressed."""
    suppressed = "AND NOT EXISTS (SELECT 1 FROM suppressions x WHERE x.address_hash = s.address_hash)"
    return mock.patch.object(gate, "_SQLITE_ELIGIBLE", _eligible("AND s.status = 'active'", suppressed))


def gate_without_mailing() -> AbstractContextManager:
    """The gate does not ask whether the mailing is sending."""
    held = (
        sa.select(batches.c.chain, mailings.c.rate)
        .join(mailings, mailings.c.id == batches.c.mailing_id)
        .where(batches.c.id == sa.bindparam("batch"), batches.c.fence == sa.bindparam("fence"))
    )
    return mock.patch.object(gate, "_SQLITE_HELD", held)


@contextmanager
def gate_without_fence() -> Iterator[None]:
    """Neither the fence, nor the lease, nor the delivery's state is asked for: who is woken up goes on with its list."""
    held = (
        sa.select(batches.c.chain, mailings.c.rate)
        .join(mailings, mailings.c.id == batches.c.mailing_id)
        .where(batches.c.id == sa.bindparam("batch"), mailings.c.state == "sending")
    )
    with (
        mock.patch.object(gate, "_SQLITE_HELD", held),
        mock.patch.object(gate, "_SQLITE_ELIGIBLE", _eligible("AND d.state = 0")),
    ):
        yield


@contextmanager
def gate_for_ever() -> Iterator[None]:
    """A gate once passed stays good, however late the relay wants the body."""
    with (
        mock.patch.object(conversation, "suspended_monotonic", _never),
        mock.patch.object(wire, "suspended_monotonic", _never),
    ):
        yield


@contextmanager
def dot_recorded_late() -> Iterator[None]:
    """The journal learns of a dot only with the reply to it."""
    real = journal.Journal.reply

    def reply(self, delivery, attempt, *said):
        real_dot(self, delivery, attempt)
        real(self, delivery, attempt, *said)

    real_dot = journal.Journal.dot
    with mock.patch.object(journal.Journal, "dot", _nothing), mock.patch.object(journal.Journal, "reply", reply):
        yield


def silence_is_refusal() -> AbstractContextManager:
    """A connection that breaks after the dot counts as one that broke before it."""

    def abandoned(_self, text, _farewell):
        return Reply(0, None, text), ReplyClass.NOT_SENT, Phase.DOT

    return mock.patch.object(transaction.Transaction, "abandoned", abandoned)


def recovery_hopes() -> AbstractContextManager:
    """A dead worker's dot without a reply counts as unsent."""
    real = JournalContents.verdict

    def verdict(self, delivery, attempt):
        found = real(self, delivery, attempt)
        return Verdict(Fate.NOT_SENT) if found.fate is Fate.UNCERTAIN else found

    return mock.patch.object(JournalContents, "verdict", verdict)


def everybody_is_dead() -> AbstractContextManager:
    """A journal is settled although its owner lives."""
    return mock.patch.object(autopsy, "is_dead", _yes)


@contextmanager
def any_attempt() -> Iterator[None]:
    """Outcomes are recorded by delivery, whatever the attempt and its state."""
    accept = sa.text(outcomes._SQLITE_ACCEPT.text.replace("AND attempts = :attempt AND state = :before", ""))
    with mock.patch.object(outcomes, "_SQLITE_ACCEPT", accept):
        yield


def unknown_commits_stay() -> AbstractContextManager:
    """A gate whose commit nobody knows of is not taken back."""
    return mock.patch.object(outcomes, "take_back", _nothing)


def garbage_is_yes() -> AbstractContextManager:
    """Whatever a relay says after the dot that is no refusal counts as an acceptance."""
    real = conversation.classify

    def classify(reply, phase):
        found = real(reply, phase)
        return ReplyClass.TRANSIENT if found is ReplyClass.UNCERTAIN else found

    return mock.patch.object(conversation, "classify", classify)


def dot_before_body_is_out() -> AbstractContextManager:
    """The dot is not recorded where the body had to be written before it."""

    def put_dot(self, transaction):
        transaction.phase = Phase.DOT
        self._channel.write([b".\r\n"])

    return mock.patch.object(pen.Pen, "put_dot", put_dot)


def correction_fences_nobody() -> AbstractContextManager:
    """Who holds a batch while its mailing is paused, corrected and resumed goes on with what it has in memory."""
    return mock.patch.object(corrections, "end_claims", _nothing)


def old_edition_goes_on() -> AbstractContextManager:
    """A batch stays of the edition that it was planned with, whatever was corrected since."""
    return mock.patch.object(renditions, "newest_id", _nothing)


def corrected_in_place() -> AbstractContextManager:
    """A batch is of the corrected edition from now on, with those of its readers who got the one before."""

    def renew(session, claim, rendition):
        session.execute(batches.update().where(batches.c.id == claim.batch).values(rendition_id=rendition))

    return mock.patch.object(corrections, "renew_batch", renew)


def one_edition_for_all_issues() -> AbstractContextManager:
    """What a worker has printed for a chain counts as that of any mailing."""

    real = dispatch.Dispatcher._rendition

    def by_chain(self, session, claim):
        if claim.chain not in self._renditions:
            self._renditions[claim.chain] = real(self, session, claim)
        return self._renditions[claim.chain]

    return mock.patch.object(dispatch.Dispatcher, "_rendition", by_chain)


MUTANTS: Mapping[str, Callable[[], AbstractContextManager]] = {
    made.__name__: made
    for made in (
        gate_without_readers,
        gate_without_mailing,
        gate_without_fence,
        gate_for_ever,
        dot_recorded_late,
        silence_is_refusal,
        recovery_hopes,
        everybody_is_dead,
        any_attempt,
        unknown_commits_stay,
        garbage_is_yes,
        dot_before_body_is_out,
        correction_fences_nobody,
        old_edition_goes_on,
        corrected_in_place,
        one_edition_for_all_issues,
    )
}


def found_after(name: str, shelf: Shelf, most: int, first: int = 1) -> tuple[int, str] | None:
    """The first seed that finds the mutant, and how; None where none of so many does."""
    with MUTANTS[name]():
        for seed in range(first, first + most):
            result = simulate(seed, shelf)
            if result.violations:
                return seed, result.violations[0]
    return None
