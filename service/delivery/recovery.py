"""Recovery: what dead workers left open is decided by their journals, and only a host that stays away by a deadline."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from service import faults, log
from service.clock import Clock
from service.delivery import notices
from service.delivery.recording import result_of
from service.domain.delivery import HOST_AWAY, JOURNAL_LOST, WORKER_DIED, DeliveryState
from service.domain.errors import InvalidInputError
from service.domain.replies import Phase, ReplyClass
from service.mail import autopsy
from service.mail.autopsy import Fate, JournalContents
from service.mail.host import host_id
from service.mail.journal import journals_dir
from service.mail.letter import Outcome
from service.store import Database, Session, batches, outcomes, senders
from service.store.instants import stored
from service.store.outcomes import OpenAttempt, Result

KEEP_JOURNALS = dt.timedelta(days=7)
# A sender is registered a moment before its journal is made.
_JOURNAL_SECONDS = 600

_log = log.get("recovery")


@dataclass(frozen=True, slots=True)
class Recovery:
    """Settles the accounts of dead workers of this host, and of hosts that stay away.

    `machine` is the clock by which this host dates its files, where that is another.
    """

    database: Database
    data_dir: Path
    clock: Clock
    host_away_seconds: float
    machine: Clock | None = None

    def settle_journals(self) -> int:
        """Settle every dead journal of this host, and tell the database that the host is there; how many were settled.

        Idempotent, and safe beside other processes that do the same: an attempt is settled once. One that may not be
        read or marked keeps none of the others waiting; what only it knows waits until it may.
        """
        host = host_id(self.data_dir)
        with self.database.begin() as session:
            senders.seen(session, host)
        try:
            settled = sum(self._settled(path) for path in autopsy.unsettled(self.data_dir))
            self._settle_without_journal(host)
            autopsy.prune(self.data_dir, older_than=(self.machine or self.clock).now() - KEEP_JOURNALS)
        except OSError as error:
            # The folder itself: of what may be in it nothing is known, and nothing is given up.
            _log.warning("journals-not-settled", folder=str(journals_dir(self.data_dir)), error=error.strerror)
            return 0
        return settled

    def _settled(self, path: Path) -> bool:
        """Whether its owner was dead, and it is settled now."""
        try:
            if not autopsy.is_dead(path):
                return False
            self._settle(path)
        except FileNotFoundError:
            return False  # another process settled it first
        except OSError as error:
            # The attempts that it alone knows of stay as they are: neither sent again nor given up.
            _log.warning("journal-not-settled", journal=path.name, error=error.strerror)
            return False
        return True

    def _settle(self, path: Path) -> None:
        try:
            contents = autopsy.read(path)
        except InvalidInputError:
            # A power cut may leave a file without its first page: nothing is known of what it held.
            self._give_up(autopsy.named_sender(path), "its journal cannot be read", JOURNAL_LOST)
            autopsy.settle(path)
            return
        faults.point("settle-begun")
        with self.database.begin() as session:
            left = _held(session, contents.sender_id)
            news = [one for one in left if not _known_uncertain(one, contents)]
            results = [self._result(session, contents, one) for one in news]
            changed = outcomes.record(session, results, now_ms=stored(self.clock.now()))
            batches.settle(session, sorted(changed))
            notices.settle_journal(session, contents, now=self.clock.now())
            senders.settle(session, contents.sender_id)
            faults.point("settle-commit")
        faults.point("settle-recorded")
        autopsy.settle(path)
        faults.point("settle-renamed")
        _log.info("journal-settled", sender=contents.sender_id, attempts=len(left), records=len(contents.records))

    def settle_living(self) -> None:
        """After the database was set back: record anew what living workers of this host had recorded and forgotten.

        Only with their gates shut for longer than a gate is good: then a letter without a dot is not written any more.
        One with a dot and no reply is left to its worker, who may still hear of it.
        """
        for path in autopsy.unsettled(self.data_dir):
            try:
                contents = None if autopsy.is_dead(path) else autopsy.read(path)
            except (FileNotFoundError, InvalidInputError):
                continue
            if contents is None:
                continue
            with self.database.begin() as session:
                left = _held(session, contents.sender_id)
                known = [one for one in left if contents.verdict(one.delivery, one.attempt).fate is not Fate.UNCERTAIN]
                results = [self._result(session, contents, one) for one in known]
                changed = outcomes.record(session, results, now_ms=stored(self.clock.now()))
                batches.settle(session, sorted(changed))

    def _settle_without_journal(self, host: str) -> None:
        """Senders of this host whose journal is gone, or was never made: what they had open is uncertain."""
        with self.database.read() as session:
            known = [sender.id for sender in senders.unsettled(session, host, older_than_seconds=_JOURNAL_SECONDS)]
        there = {autopsy.named_sender(path) for path in autopsy.unsettled(self.data_dir)}
        for sender in sorted(set(known) - there):
            self._give_up(sender, "its journal is gone", JOURNAL_LOST)

    def _give_up(self, sender: int, evidence: str, reason: str) -> None:
        with self.database.begin() as session:
            lost = self._make_uncertain(session, sender, evidence, reason)
            senders.settle(session, sender)
        _log.warning("journal-lost", sender=sender, letters=lost)

    def _make_uncertain(self, session: Session, sender: int, evidence: str, reason: str) -> int:
        left = [one for one in _held(session, sender) if one.state is DeliveryState.ATTEMPTING]
        results = [_uncertain(one, evidence, reason) for one in left]
        changed = outcomes.record(session, results, now_ms=stored(self.clock.now()))
        batches.settle(session, sorted(changed))
        return len(left) + notices.give_up(session, sender, now=self.clock.now())

    def _result(self, session: Session, contents: JournalContents, left: OpenAttempt) -> Result:
        verdict = contents.verdict(left.delivery, left.attempt)
        if verdict.fate is Fate.UNCERTAIN:
            return _uncertain(left, "the worker died between the final dot and its reply", WORKER_DIED)
        outcome = Outcome(
            left.delivery,
            left.attempt,
            verdict.reply_class or ReplyClass.NOT_SENT,
            verdict.code,
            verdict.enhanced,
            "read from the journal of the worker, which died",
            Phase.DOT,
            relay=left.relay,
            past_dot=verdict.fate is Fate.REPLIED,
        )
        return result_of(session, outcome, self.clock.now())

    def give_up_lost_hosts(self) -> int:
        """Make the open letters of hosts that stayed away uncertain; how many. A host that returns still decides."""
        with self.database.read() as session:
            gone = [sender.id for sender in senders.away(session, self.host_away_seconds)]
        lost = 0
        for sender in gone:
            # A transaction each: several hold batches in an order of their own, and somebody else in another.
            with self.database.begin() as session:
                # Its host may have come back meanwhile, and decides then.
                if sender in {one.id for one in senders.away(session, self.host_away_seconds)}:
                    lost += self._make_uncertain(session, sender, "its host has not come back", HOST_AWAY)
        if lost:
            _log.warning("host-away", letters=lost)
        return lost


def _held(session: Session, sender: int) -> list[OpenAttempt]:
    """The open attempts of a sender, whose batches nobody else changes until this transaction ends.

    Batches before deliveries, as everywhere: an operator who resolves the same ones at this moment would deadlock.
    """
    for batch in sorted({one.batch for one in outcomes.open_attempts(session, sender)}):
        batches.hold(session, batch)
    return outcomes.open_attempts(session, sender)


def _known_uncertain(left: OpenAttempt, contents: JournalContents) -> bool:
    """Whether the journal knows no more than the worker itself, whose evidence is the better one."""
    return (
        left.state is DeliveryState.UNCERTAIN and contents.verdict(left.delivery, left.attempt).fate is Fate.UNCERTAIN
    )


def _uncertain(left: OpenAttempt, evidence: str, reason: str) -> Result:
    return Result(
        left.delivery,
        left.attempt,
        DeliveryState.UNCERTAIN,
        ReplyClass.UNCERTAIN.value,
        reason=reason,
        reply=evidence,
        phase="dot",
        relay=left.relay,
    )
