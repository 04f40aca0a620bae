"""Importing subscribers from a file: streamed, in chunks, and nobody who has left comes back by it."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from service.audience.candidates import Candidate, Defaults, Examiner
from service.audience.consent import evidence
from service.audience.csv_lines import Broken
from service.audience.departures import Departures, note
from service.audience.said import Said
from service.audience.seen import Seen
from service.audience.subscriber_file import Entry, Origin, SubscriberFile
from service.domain.chains import Chain
from service.domain.errors import InvalidInputError
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.store import Database, Session, audit, confirmations, publication, subscribers, suppressions
from service.store.departures import Step
from service.store.subscribers import NewSubscriber, Standing, prepared

# Pages of the indexes are written once for each chunk: larger ones write fewer, and hold their memory a little longer.
CHUNK = 20_000
_CONSENT_DIGITS = len("sha256:") + 12

_SUPPRESSES = {
    Said.BOUNCED: SuppressionReason.BOUNCED,
    Said.COMPLAINED: SuppressionReason.COMPLAINED,
    Said.BLOCKED: SuppressionReason.OPERATOR,
}
_ROWS = {
    Said.ACTIVE: SubscriberStatus.ACTIVE,
    Said.UNSUBSCRIBED: SubscriberStatus.UNSUBSCRIBED,
    Said.BOUNCED: SubscriberStatus.BOUNCED,
    Said.COMPLAINED: SubscriberStatus.COMPLAINED,
}
_LEAVES = frozenset({Said.UNSUBSCRIBED, *_SUPPRESSES})
_GONE = frozenset({SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.BOUNCED, SubscriberStatus.COMPLAINED})


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of each line: `lines` is the sum of new, known, suppressed, unsubscribed, unconfirmed and invalid.

    `known` were readers already, or come twice in the file; `unsubscribed` have left, here or by the word of the file,
    and `left` of them were active here until now; `unconfirmed` never agreed, so they are not stored.
    """

    source: str
    origin: Origin
    lines: int = 0
    new: int = 0
    known: int = 0
    suppressed: int = 0
    unsubscribed: int = 0
    unconfirmed: int = 0
    invalid: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told while an import runs: of each invalid line and its reason, and of the octets read so far."""

    invalid: Callable[[int, str], None] = lambda _line, _reason: None
    progress: Callable[[int], None] = lambda _octets: None


def import_file(
    database: Database,
    departures: Departures,
    path: Path,
    *,
    languages: str | None,
    consent: str | None,
    standing: Said = Said.ACTIVE,
    actor: str,
    now: dt.datetime,
    dry_run: bool = False,
    listener: Listener | None = None,
    chunk: int = CHUNK,
) -> ImportReport:
    """Import the subscribers of a CSV file; safe to repeat, and so to take up again where a crash stopped it.

    `languages` and `standing` count for lines that say none, `consent` for lines without evidence of their own; without
    either the evidence is the digest of the file. Takes the database and not a session: each chunk is a transaction, so
    that a million lines do not hold SQLite's one writer. Raises InvalidInputError for a file or option that is unusable
    as a whole, before anything is changed.
    """
    listener = listener or Listener()
    with database.read() as session:
        known_languages = publication.load(session).languages
    source = _digest(path)
    week = Week.of(now.date())
    words = evidence(consent) if consent else f"import {source[:_CONSENT_DIGITS]}"
    chain = Chain.parse(languages, known_languages, aliases=True) if languages else None
    with path.open("rb") as file:
        lines = SubscriberFile(file, standing)
        if not lines.has_languages and chain is None:
            raise InvalidInputError("the file has no column languages; say them for all lines: --languages be,ru")
        work = _Import(database, departures, week, Seen() if dry_run else None)
        examiner = Examiner(database.sealer, known_languages, Defaults(chain, words, week))
        if not dry_run:
            _write_audit(database, "subscriber.import", actor, now, {"source": source, "consent": bool(consent)})
        entries = iter(lines)
        while part := list(islice(entries, chunk)):
            work.store(_candidates(part, examiner, work.tally, listener))
            listener.progress(lines.octets)
        report = ImportReport(source, lines.origin, **work.tally)
    if not dry_run:
        _write_audit(database, "subscriber.imported", actor, now, asdict(report))
    return report


def _candidates(
    part: list[Entry | Broken], examiner: Examiner, tally: Counter[str], listener: Listener
) -> list[Candidate]:
    found = []
    tally["lines"] += len(part)
    for entry in part:
        reason = ""
        if isinstance(entry, Broken):
            reason = entry.reason
        else:
            try:
                found.append(examiner.candidate(entry))
            except InvalidInputError as error:
                reason = str(error)
        if reason:
            tally["invalid"] += 1
            listener.invalid(entry.number, reason)
    return found


@dataclass(slots=True)
class _Work:
    """What one chunk changes."""

    new: list[bytes] = field(default_factory=list)
    leaving: list[tuple[bytes, bytes, Said]] = field(default_factory=list)
    suppressed: list[tuple[bytes, SuppressionReason]] = field(default_factory=list)


@dataclass(slots=True)
class _Import:
    """Stores chunk after chunk and counts; with `seen` (a dry run) it only counts."""

    database: Database
    departures: Departures
    week: Week
    seen: Seen | None
    tally: Counter[str] = field(default_factory=Counter)

    def store(self, candidates: list[Candidate]) -> None:
        chosen = self._once(candidates)
        if self.seen is not None:
            with self.database.read() as session:
                self._sort(session, chosen)
            return
        # Sealed before the transaction, which should be short: everybody else who writes waits for it.
        sealed = {known: self._sealed(one) for known, one in chosen.items() if one.said in _ROWS}
        with self.database.begin() as session:
            work = self._sort(session, chosen)
            missed = len(work.new) - subscribers.insert(session, [sealed[known] for known in work.new], week=self.week)
            # Somebody else added these between our look and our insert.
            self.tally["new"] -= missed
            self.tally["known"] += missed
            self._send_away(session, work)

    def _once(self, candidates: list[Candidate]) -> dict[bytes, Candidate]:
        """The candidates by their hash; of two lines about one reader a departure counts, else the first."""
        chosen: dict[bytes, Candidate] = {}
        for one in candidates:
            first = chosen.get(one.address_hash)
            if first is None and (self.seen is None or self.seen.add(one.address_hash)):
                chosen[one.address_hash] = one
                continue
            self.tally["known"] += 1
            if first is not None and first.said is Said.ACTIVE and one.said in _LEAVES:
                chosen[one.address_hash] = one
        return chosen

    def _sealed(self, one: Candidate) -> NewSubscriber:
        return prepared(
            self.database.sealer,
            one.address,
            one.chain,
            status=_ROWS[one.said],
            consent=one.consent,
            week=one.week,
            address_hash=one.address_hash,
        )

    def _sort(self, session: Session, chosen: dict[bytes, Candidate]) -> _Work:
        work = _Work()
        readers = subscribers.standings(session, chosen)
        suppressed = suppressions.suppressed_among(session, chosen)
        for address_hash, one in chosen.items():
            reader = readers.get(address_hash)
            if address_hash in suppressed:
                self.tally["suppressed"] += 1
            elif reader is None:
                self._sort_new(one, work)
            else:
                self._sort_known(one, reader, work)
        return work

    def _sort_new(self, one: Candidate, work: _Work) -> None:
        if one.said is Said.PENDING:
            self.tally["unconfirmed"] += 1
            return
        if one.said in _SUPPRESSES:
            work.suppressed.append((one.address_hash, _SUPPRESSES[one.said]))
        if one.said is Said.BLOCKED:
            # A keyed hash is all that is needed to never mail an address.
            self.tally["suppressed"] += 1
            return
        work.new.append(one.address_hash)
        self.tally["new" if one.said is Said.ACTIVE else "unsubscribed"] += 1

    def _sort_known(self, one: Candidate, reader: Standing, work: _Work) -> None:
        """A file can have a reader leave; it never brings one back, and never changes languages that were chosen."""
        gone = reader.status in _GONE
        if one.said not in _LEAVES:
            self.tally["unsubscribed" if gone else "known"] += 1
            return
        if one.said in _SUPPRESSES:
            work.suppressed.append((one.address_hash, _SUPPRESSES[one.said]))
        self.tally["suppressed" if one.said is Said.BLOCKED else "unsubscribed"] += 1
        if not gone:
            self.tally["left"] += 1
            work.leaving.append((reader.id, one.address_hash, one.said))

    def _send_away(self, session: Session, work: _Work) -> None:
        away = [address_hash for _, address_hash, _ in work.leaving] + [known for known, _ in work.suppressed]
        confirmations.withdraw(session, away)
        suppressions.insert(session, work.suppressed, self.week)
        for reader, _, said in work.leaving:
            if said in _ROWS:
                subscribers.set_status(session, reader, _ROWS[said], week=self.week)
        # Who was only asked, and is asked no more.
        blocked = [known for _, known, said in work.leaving if said is Said.BLOCKED]
        if blocked:
            confirmations.forget_pending(session, blocked)
        steps = [(address_hash, Step(reason.value)) for address_hash, reason in work.suppressed]
        steps += [(known, Step.UNSUBSCRIBED) for _, known, said in work.leaving if said is Said.UNSUBSCRIBED]
        if steps:
            note(self.departures, steps, self.week)


def _digest(path: Path) -> str:
    """What the audit log calls the file: its name may tell of a person, its SHA-256 does not."""
    try:
        if not path.is_file():
            raise InvalidInputError("there is no such file to import, or it is not a regular one")
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInputError(f"the file cannot be read ({type(error).__name__})") from None


def _write_audit(database: Database, action: str, actor: str, now: dt.datetime, details: dict[str, Any]) -> None:
    with database.begin() as session:
        audit.append(session, at=now, actor=actor, action=action, subject="import", details=details)
