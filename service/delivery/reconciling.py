"""Reconciling: a database that was set back in time (a backup restored, a copy that lagged behind) learns from the
journals of this host what it does not know, before anything more is sent. See ADR 0013.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Protocol, TypeVar

from service import faults, log
from service.clock import Clock
from service.delivery import trouble
from service.delivery.recording import result_of
from service.delivery.recovery import KEEP_JOURNALS, Recovery
from service.delivery.send import GATE_SECONDS
from service.domain.mailing import SETTLED, MailingState
from service.domain.replies import Phase, ReplyClass
from service.mail import autopsy, hindsight
from service.mail.hindsight import Past
from service.mail.host import host_id
from service.mail.journal import Record
from service.mail.letter import Outcome
from service.mail.notebook import Begun, Mark, Notebook
from service.queue import Silence
from service.store import (
    Database,
    Session,
    audit,
    batches,
    corrections,
    hosts,
    lost_issues,
    mailings,
    notices,
    outcomes,
)
from service.store import hindsight as store
from service.store.hosts import Sighting
from service.store.instants import loaded, stored
from service.store.mailings import Mailing

ACTOR = "worker"
_UNBEGUN = frozenset({MailingState.DRAFT, MailingState.SCHEDULED, MailingState.PLANNING})
# What two clocks that were told the same time may differ by; no restore takes so short a time.
_LEEWAY_MS = 1000
# A departure is written down before it is committed: in so long a time it was, and copies had it.
_COPIED_MS = 600_000

_log = log.get("reconciling")
_Value = TypeVar("_Value")


class Look(Enum):
    """How much is compared where nothing says that the database was set back."""

    NOTHING = auto()
    OPEN = auto()  # the journals that are not settled: this process has lost the database meanwhile
    ALL = auto()  # a worker starts


@dataclass(slots=True)
class _Findings:
    """What the journals of `host`, and its mark as `known`, tell and the database did not.

    `departed` is how far its log of departures had come, for the next mark; `awaiting` is set once the database says
    that nothing goes on before the hosts have compared their journals.
    """

    host: str
    known: Mark | None
    departed: tuple[tuple[int, int], ...]
    awaiting: bool
    letters: Counter[int] = field(default_factory=Counter)  # by mailing
    missing: set[int] = field(default_factory=set)  # deliveries
    lost: list[str] = field(default_factory=list)

    @property
    def any(self) -> bool:
        return bool(self.letters or self.missing or self.lost)


class Departures(Protocol):
    """Who has left, as this host wrote it down beside the database: `audience.departures.OwnLog`."""

    def size(self) -> int:
        """How far the log has come, in octets."""
        ...

    def reapply(self, session: Session, now: dt.datetime) -> None:
        """Send away again whoever has left."""
        ...

    def catch_up(self, session: Session, now: dt.datetime, *, since: int) -> None:
        """As `reapply`, but only those of whom the log was told after it was of that size."""
        ...


@dataclass(slots=True)
class Reconciler:
    """The books of this host, held against the database; one for each process, safe beside those of others.

    `departures` sends away again the readers who left after the backup was made; `machine` is the clock by which this
    host dates its files, where that is another. Where another database answers, every host that was about is waited for
    until it has compared its journals, too, but no longer than `patience_seconds`.
    """

    database: Database
    data_dir: Path
    clock: Clock
    departures: Departures
    machine: Clock | None = None
    patience_seconds: float = 3600
    _sighted: Sighting | None = None
    _losses: int = 0  # of the database's connections, when it was compared last
    _begun: set[tuple[int, int, int]] = field(default_factory=set)

    def believed(self, session: Session) -> bool:
        """Whether this is the database that was compared last, grown since, and by every host: one small query.

        Where it is not, nothing may be claimed before `compare`.
        """
        now, before = hosts.sight(session, host_id(self.data_dir)), self._sighted
        if before is None or self.database.losses != self._losses or not _follows(now, before.mark, before.database):
            return False
        self._sighted = now
        return not now.unheard

    def compare(self, look: Look = Look.NOTHING) -> bool:
        """Compare the journals with the database as far as there is reason to, and raise the mark of both.

        Whether the database was behind: then what it did not know is written down, every mailing that was sending is
        paused, and the other hosts are awaited.
        """
        losses = self.database.losses
        if losses != self._losses and look is Look.NOTHING:
            look = Look.OPEN
        with Notebook(self.data_dir).held():
            behind = self._compare(look)
        # What was lost meanwhile is a reason to compare again.
        self._losses = losses
        return behind

    def begin(self, mailing: Mailing) -> None:
        """Write down, once, that this host begins to send it; before its first gate."""
        created, started = stored(mailing.created_at), stored(mailing.started_at or mailing.created_at)
        if (mailing.id, created, started) not in self._begun:
            # Never before its start, or it would be written down again and again.
            begun = Begun(mailing.week, mailing.id, created, max(started, stored(self.clock.now())))
            Notebook(self.data_dir).begin(begun, started_at=started)
            self._begun.add((mailing.id, created, started))

    def _compare(self, look: Look) -> bool:
        notebook, host = Notebook(self.data_dir), host_id(self.data_dir)
        known = notebook.mark()
        # Before the look at the database: what is written down meanwhile may not be in it.
        departed = self._departed(known)
        seen = self._look()
        if known is not None and known.database != seen.database:
            # A file that was put in place of the one that is open here is seen by new connections only.
            self.database.close()
            seen = self._look()
        set_back = known is not None and (seen.mark or 0) < known.number
        if known is None or not _follows(seen, known.number, known.database):
            look = Look.ALL
        # Awaited: another host has found it out, or this one and did not come to the end.
        behind = set_back or seen.awaited
        # That it waits for us since before it heard us last is of an older time: it waits for nobody as yet.
        awaiting = seen.awaited_since is not None and (known is None or seen.awaited_since >= known.raised_at)
        found = _Findings(host, known, departed, awaiting)
        if behind:
            self._stop_everything(found)
        self._compare_journals(look, found)
        if found.any and look is not Look.ALL:
            # Then it may have forgotten anything: also what settled journals and `begun.log` know.
            look = Look.ALL
            self._compare_journals(look, found)
        if look is Look.ALL:
            self._compare_begun(found)
        behind = behind or found.any
        if behind:
            self._begin_anew(found)
        elif known is not None and known.departures and known.database != seen.database:
            self._catch_up(since=known.departures[0][0])
        self._raise_mark(notebook, found, seen, behind=behind)
        return behind

    def _begin_anew(self, found: _Findings) -> None:
        """Leave a database that was set back so that it can be gone on with, once an operator says so."""
        self._stop_everything(found)
        self._set_apart(found)
        # No gate that was passed in the lost time is good after this: what has no dot now gets none.
        time.sleep(GATE_SECONDS)
        Recovery(self.database, self.data_dir, self.clock, host_away_seconds=0).settle_living()
        _log.error("database-set-back", host=found.host, letters=found.letters.total(), missing=len(found.missing))

    def _catch_up(self, *, since: int) -> None:
        """A copy may have lagged so little that nobody was mailed meanwhile, and still have lost who left."""
        if self.departures.size() > since:
            with self.database.begin() as session:
                self.departures.catch_up(session, self.clock.now(), since=since)

    def _departed(self, known: Mark | None) -> tuple[tuple[int, int], ...]:
        """Up to where the log of departures is in the database and its copies, and up to where it soon will be."""
        now = (self.departures.size(), stored(self.clock.now()))
        older, newer = known.departures if known is not None and known.departures else (now, now)
        return (newer, now) if now[1] - newer[1] >= _COPIED_MS else (older, newer)

    def _look(self) -> Sighting:
        with self.database.read() as session:
            return hosts.sight(session, host_id(self.data_dir))

    def _compare_journals(self, look: Look, found: _Findings) -> None:
        if look is Look.NOTHING:
            return
        since = (self.machine or self.clock).now() - KEEP_JOURNALS if look is Look.ALL else None
        # The newest first: a delivery's last attempt is its last word.
        for past in reversed(list(hindsight.journals(self.data_dir, since=since))):
            try:
                for records in past.last_words():
                    self._compare_part(past, records, found)
                self._reopen(past)
            except FileNotFoundError:
                continue  # settled by a sweep meanwhile, and so known

    def _compare_part(self, past: Past, records: list[Record], found: _Findings) -> None:
        letters = {one.delivery_id: one for one in records if one.delivery_id > 0}
        with self.database.read() as session:
            unknown = store.unknown(session, {number: one.attempt for number, one in letters.items()})
        found.missing.update(unknown.missing)
        for record in records:
            if record.delivery_id < 0:
                self._settle_notice(past, record)
        if not unknown.gated:
            return
        if not found.letters:
            # Nobody may go on sending while the rest is written down.
            self._stop_everything(found)
        found.letters.update(unknown.mailings.values())
        with self.database.begin() as session:
            now = self.clock.now()
            touched = store.gate_again(session, unknown.gated, sender=past.sender, now_ms=stored(now))
            spoken = (self._outcome(past, letters[number]) for number in unknown.gated)
            results = [result_of(session, outcome, now) for outcome in spoken if outcome is not None]
            outcomes.record(session, results, now_ms=stored(now))
            batches.settle(session, sorted(touched))
            faults.point("reconcile-part-commit")
        faults.point("reconcile-part-done")

    def _outcome(self, past: Past, record: Record) -> Outcome | None:
        """What the journal says became of the attempt; None where its living owner may still hear of it."""
        answered = hindsight.replied(record)
        if not answered and not past.settled and not autopsy.is_dead(past.path):
            return None
        return Outcome(
            record.delivery_id,
            record.attempt,
            record.reply_class if answered else ReplyClass.UNCERTAIN,
            record.code,
            record.enhanced,
            "read from the journal: the database, restored from an older copy, did not know of it",
            Phase.DOT,
            relay="",
            past_dot=True,
        )

    def _settle_notice(self, past: Past, record: Record) -> None:
        with self.database.begin() as session:
            # The journal is dated by this machine, the notice by the database.
            ahead = self.machine.now() - self.clock.now() if self.machine else dt.timedelta(0)
            written = int((record.at - ahead.total_seconds()) * 1000) + _LEEWAY_MS
            notices.forget_letter(session, -record.delivery_id, record.attempt, sender=past.sender, written_ms=written)

    def _reopen(self, past: Past) -> None:
        """A journal whose settling the database has forgotten is settled once more: letters without a dot go back."""
        with self.database.begin() as session:
            forgotten = store.remember_sender(
                session, past.sender, host=past.host, boot=past.boot, settled=past.settled
            )
        if forgotten and past.settled:
            faults.point("reconcile-reopened")
            past.reopen()

    def _compare_begun(self, found: _Findings) -> None:
        for begun in Notebook(self.data_dir).begun():
            with self.database.begin() as session:
                now = mailings.of_issue(session, begun.week)
                same = now is not None and (now.id, stored(now.created_at)) == (begun.mailing, begun.created_at)
                if now is not None and same and now.started_at is not None:
                    continue
                if not lost_issues.add(session, begun.week, host=found.host, begun_at=begun.begun_at):
                    continue
                found.lost.append(begun.week)
                if not found.awaiting:
                    # It is found once only: whoever comes after us, should we die, knows by this that more was lost.
                    hosts.await_all(session, found.host, found.known.hosts if found.known else {})
                if now is not None and now.state in _UNBEGUN:
                    self._cancel_lost(session, now.id, found.host, begun)
        if found.lost:
            faults.point("reconcile-lost-noted")
            _log.error("issues-lost", host=found.host, weeks=found.lost)

    def _cancel_lost(self, session: Session, mailing: int, host: str, begun: Begun) -> None:
        # Locked and read again: somebody may have cancelled it, or begun to send it, in this moment.
        if mailings.lock(session, mailing).state in SETTLED:
            return
        reason = (
            f"the database is older than the first mail of this issue, which host {host[:8]} began to send "
            f"on {loaded(begun.begun_at):%Y-%m-%d %H:%M} UTC; see: tydzen mailing reconcile"
        )
        mailings.move(session, mailing, MailingState.CANCELLED, now=self.clock.now(), reason=reason)

    def _stop_everything(self, found: _Findings) -> None:
        """Pause whatever is sending, say why, and wait for all hosts; again, with the numbers, at the end.

        This host waits for itself, too: whoever resumes while it is at work, or after it died at it, is refused, and
        the next process of it that looks begins anew.
        """
        now = self.clock.now()
        with self.database.begin() as session:
            if not found.awaiting:
                hosts.await_all(session, found.host, found.known.hosts if found.known else {})
            for seen in mailings.in_states(session, [MailingState.SENDING, MailingState.PAUSED]):
                # Locked and read again, in the order of ids: what has ended or goes on in this moment is known.
                mailing = mailings.lock(session, seen.id)
                letters = found.letters[mailing.id]
                if mailing.state is not MailingState.SENDING and (mailing.state in SETTLED or not letters):
                    continue
                reason = _reason(found.host, mailing.id, letters)
                mailings.move(session, mailing.id, MailingState.PAUSED, now=now, reason=reason)
                if mailing.state is MailingState.SENDING:
                    corrections.end_claims(session, mailing.id)
                    subject = f"mailing:{mailing.id}"
                    audit.append(session, at=now, actor=ACTOR, action="mailing.pause", subject=subject, details={})
                    # Once for each pause: what is set back again after a resume is told again.
                    kind = f"{trouble.SET_BACK}:{stored(now)}"
                    trouble.tell(session, Silence(), mailing.id, kind, reason, now=now)
        found.awaiting = True
        faults.point("reconcile-stopped")

    def _set_apart(self, found: _Findings) -> None:
        with self.database.begin() as session:
            highest = max([found.known.delivery if found.known else 0, *found.missing])
            low = min([store.highest_delivery(session) + 1, *found.missing])
            store.set_numbers_apart(session, low, highest)
            self.departures.reapply(session, self.clock.now())
            faults.point("reconcile-apart-commit")
        faults.point("reconcile-apart")

    def _raise_mark(self, notebook: Notebook, found: _Findings, seen: Sighting, *, behind: bool) -> None:
        number = max(seen.mark or 0, found.known.number if found.known else 0) + 1
        with self.database.begin() as session:
            if hosts.sight(session, found.host).database != seen.database:
                return  # another one answers by now, and is to be compared before anything is said in it
            if found.known is None or found.known.database != seen.database:
                hosts.wait_for_others(session, found.host, seen.database, seconds=self.patience_seconds)
            raised_at = hosts.raise_mark(session, found.host, number, seen.database)
            delivery, others = store.highest_delivery(session), hosts.about(session, found.host)
            if behind:
                faults.point("reconcile-mark-commit")
        if behind:
            faults.point("reconcile-mark-raised")
        # After the commit: the file must never be ahead of a database that was not set back.
        notebook.write(Mark(number, seen.database, delivery, others, raised_at, found.departed))
        self._sighted = Sighting(number, awaited_since=None, database=seen.database)


def believing(database: Database, books: Reconciler | None, work: Callable[[Session], _Value]) -> _Value | None:
    """What `work` returns, in a transaction of a database that knows what the journals know, compared first if need be.

    None, and nothing was run, where it is not believed even then; the next hint asks again.
    """
    for _ in range(2):
        with database.begin() as session:
            if books is None or books.believed(session):
                return work(session)
        assert books is not None
        books.compare()
    return None


def _follows(now: Sighting, mark: int | None, database: str) -> bool:
    return not now.awaited and now.database == database and (now.mark or 0) >= (mark or 0)


def _reason(host: str, mailing: int, letters: int) -> str:
    # True before and after the comparison: nobody comes back to this sentence where they find nothing.
    known = f"{letters} letters that it did not know of are settled by them" if letters else "what they know counts"
    return (
        f"the database is older than the journals of host {host[:8]}: it was restored from a backup, or is a copy that "
        f"lagged behind. {known}. Who left by the site of a host without workers is known to its departures.log alone: "
        f"run tydzen subscriber reapply --log FILE. Check tydzen mailing status {mailing}, then: "
        f"tydzen mailing resume {mailing}"
    )
