"""Importing subscribers from a file: streamed, in chunks, and nobody who has left comes back by it."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from service.audience.candidates import Candidate, Defaults, Examiner
from service.audience.consent import evidence
from service.audience.csv_lines import Broken
from service.audience.departures import Departures, note
from service.audience.effects import CODES, EVERY, STORED, Effect, Known, effect
from service.audience.file_bounds import digest
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
# Of usual lines so many are 2 to 6 MB; of long ones fewer are held, however much they hold.
_CHUNK_OCTETS = 16 * 1024 * 1024
_CONSENT_DIGITS = len("sha256:") + 12


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of each line: `lines` is the sum of new, known, suppressed, unsubscribed, unconfirmed and invalid.

    Each is held against what is known when its turn comes, earlier lines of the file included. `known` were readers
    already; `unsubscribed` have left, here or by the word of the file; `unconfirmed` never agreed, so they are not
    stored. `left` tells by how many lines somebody left who was a reader until then, and `believed` in how many a field
    of a Mailchimp audience called STATUS told a departure; None where the file has no such field.
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
    believed: int | None = None


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
    as a whole, or too large (`file_bounds`), before anything is changed.
    """
    listener = listener or Listener()
    with database.read() as session:
        known_languages = publication.load(session).languages
    source = digest(path)
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
        for part in _chunks(lines, chunk):
            work.store(_candidates(part, examiner, work.tally, listener))
            listener.progress(lines.octets)
        report = ImportReport(source, lines.origin, **work.tally, believed=lines.believed)
    if not dry_run:
        _write_audit(database, "subscriber.imported", actor, now, asdict(report))
    return report


def _chunks(lines: SubscriberFile, most: int) -> Iterator[list[Entry | Broken]]:
    part: list[Entry | Broken] = []
    begun = lines.octets
    for entry in lines:
        part.append(entry)
        if len(part) == most or lines.octets - begun >= _CHUNK_OCTETS:
            yield part
            part, begun = [], lines.octets
    if part:
        yield part


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
    """What one chunk changes, each in the order of its lines."""

    new: list[bytes] = field(default_factory=list)
    closed: list[bytes] = field(default_factory=list)
    statuses: list[tuple[bytes, SubscriberStatus]] = field(default_factory=list)
    forgotten: list[bytes] = field(default_factory=list)
    suppressed: list[tuple[bytes, SuppressionReason]] = field(default_factory=list)

    def note(self, address_hash: bytes, done: Effect) -> None:
        before, after = done.before, done.after
        if before.status is None and after.status is not None:
            self.new.append(address_hash)
        elif before.status is not None and after.status is None:
            self.forgotten.append(address_hash)
        elif after.status is not None and after.status is not before.status:
            self.statuses.append((address_hash, after.status))
        if after.suppression is not None and after.suppression is not before.suppression:
            self.suppressed.append((address_hash, after.suppression))
        if done.closes:
            self.closed.append(address_hash)

    def steps(self) -> list[tuple[bytes, Step]]:
        """What is written down beside the database."""
        left = [one for one, status in self.statuses if status is SubscriberStatus.UNSUBSCRIBED]
        return [(one, Step(reason.value)) for one, reason in self.suppressed] + [
            (one, Step.UNSUBSCRIBED) for one in left
        ]


@dataclass(slots=True)
class _Import:
    """Stores chunk after chunk and counts; with `seen` (a dry run) it only counts."""

    database: Database
    departures: Departures
    week: Week
    seen: Seen | None
    tally: Counter[str] = field(default_factory=Counter)

    def store(self, candidates: list[Candidate]) -> None:
        if self.seen is not None:
            with self.database.read() as session:
                self._sort(session, candidates, subscribers.standings(session, _hashes(candidates)))
            return
        # Sealed before the transaction, which should be short: everybody else who writes waits for it.
        sealed = self._sealed(candidates)
        with self.database.begin() as session:
            readers = subscribers.standings(session, _hashes(candidates))
            work = self._sort(session, candidates, readers)
            # Whoever confirms holds the confirmation before the reader, and so do we.
            confirmations.withdraw(session, work.closed)
            missed = len(work.new) - subscribers.insert(session, [sealed[known] for known in work.new], week=self.week)
            # Somebody else added these between our look and our insert.
            self.tally["new"] -= missed
            self.tally["known"] += missed
            ids = {known: sealed[known].id for known in work.new} | {known: one.id for known, one in readers.items()}
            self._send_away(session, work, ids)

    def _sealed(self, candidates: list[Candidate]) -> dict[bytes, NewSubscriber]:
        """By its hash each address as the first line says it that can bring a reader."""
        made: dict[bytes, NewSubscriber] = {}
        for one in candidates:
            if one.said in STORED and one.address_hash not in made:
                made[one.address_hash] = prepared(
                    self.database.sealer,
                    one.address,
                    one.chain,
                    status=STORED[one.said],
                    consent=one.consent,
                    week=one.week,
                    address_hash=one.address_hash,
                )
        return made

    def _sort(self, session: Session, candidates: list[Candidate], readers: dict[bytes, Standing]) -> _Work:
        """Count line after line; a later one finds what an earlier one leaves behind, in a dry run too."""
        work = _Work()
        suppressed = suppressions.suppressed_among(session, _hashes(candidates))
        told: dict[bytes, Known] = {}
        for one in candidates:
            known = one.address_hash
            before = told.get(known) or self._told_before(known)
            if before is None:
                reader = readers.get(known)
                before = Known(reader.status if reader else None, suppressed.get(known))
            done = effect(before, one.said)
            self.tally[done.counted] += 1
            self.tally["left"] += done.left
            if done.after != before:
                told[known] = done.after
                work.note(known, done)
        if self.seen is not None:
            for known, after in told.items():
                self.seen.put(known, CODES[after])
        return work

    def _told_before(self, address_hash: bytes) -> Known | None:
        code = None if self.seen is None else self.seen.get(address_hash)
        return None if code is None else EVERY[code]

    def _send_away(self, session: Session, work: _Work, ids: dict[bytes, bytes]) -> None:
        suppressions.insert(session, work.suppressed, self.week)
        for known, status in work.statuses:
            # A complaint that came meanwhile weighs more, and stays.
            subscribers.set_status(session, ids[known], status, week=self.week, unless={SubscriberStatus.COMPLAINED})
        # Who was only asked, and is asked no more.
        if work.forgotten:
            confirmations.forget_pending(session, work.forgotten)
        steps = work.steps()
        if steps:
            note(self.departures, steps, self.week)


def _hashes(candidates: list[Candidate]) -> set[bytes]:
    return {one.address_hash for one in candidates}


def _write_audit(database: Database, action: str, actor: str, now: dt.datetime, details: dict[str, Any]) -> None:
    with database.begin() as session:
        audit.append(session, at=now, actor=actor, action=action, subject="import", details=details)
