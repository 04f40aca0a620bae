"""What is written down of those who leave, and made true again after a backup was restored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Protocol

from service import log
from service.audience.fates import Fate, fates
from service.domain.delivery import DeliveryState
from service.domain.signup import confirmed_in
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.store import Session, audit, confirmations, ledger, notices, subscribers, suppressions
from service.store.departures import Departure, Step
from service.store.subscribers import Subscriber

_log = log.get("departures")
# Hashes that are asked for at once.
_MANY = 10_000


class Departures(Protocol):
    """Where departures are written down: `store.departures.DepartureLog`."""

    def record(self, departures: Iterable[Departure]) -> None:
        """Append; durable when this returns."""
        ...

    def size(self) -> int:
        """How far it has come."""
        ...

    def read(self, since: int = 0, /) -> Iterable[Departure]:
        """All that came after it was of that size, oldest first."""
        ...


class Nowhere:
    """Departures of a dry run: none happen."""

    def record(self, departures: Iterable[Departure]) -> None:
        """Keep nothing."""

    def size(self) -> int:
        """Nothing is in it."""
        return 0

    def read(self, _since: int = 0, /) -> Iterable[Departure]:
        """Nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class Reapplied:
    """How many readers a restored backup had brought back, and how many addresses it had forgotten to suppress."""

    unsubscribed: int
    erased: int
    suppressed: int


def note(departures: Departures, steps: Iterable[tuple[bytes, Step]], week: Week) -> None:
    """Write down each (address hash, step) of `week`, before the database commits.

    A disk that does not take it keeps nobody from leaving: that is logged, and the database alone remembers.
    """
    try:
        departures.record([Departure(week, step, address_hash) for address_hash, step in steps])
    except OSError as error:
        _log.error("departure.not_written", error=type(error).__name__, errno=error.errno)


def reapply(
    session: Session, departures: Departures, *, others: Sequence[Departures] = (), actor: str, now: dt.datetime
) -> Reapplied:
    """Send away again everybody whose departure the database does not know, as after a restored backup. Idempotent.

    `others` are the logs of other hosts. Whoever came back after leaving stays, as far as one of the logs or the
    database itself tells it by a later week (see `fates`): a confirmation, a move to that address, or, where the
    mailbox was thought to be gone, a mail that arrived.
    """
    done = _send_away(session, fates(one.read() for one in (departures, *others)), Week.of(now.date()))
    _tell(session, done, actor=actor, now=now)
    return done


@dataclass(frozen=True, slots=True)
class OwnLog:
    """This host's log, held against a database that may have been set back; `actor` is who does it."""

    log: Departures
    actor: str

    def size(self) -> int:
        """How far the log has come."""
        return self.log.size()

    def reapply(self, session: Session, now: dt.datetime) -> None:
        """Send away again whoever the whole log says has left."""
        reapply(session, self.log, actor=self.actor, now=now)

    def catch_up(self, session: Session, now: dt.datetime, *, since: int) -> None:
        """As `reapply`, for what was written after the log was of that size; no trace is left where all was known."""
        done = _send_away(session, fates([self.log.read(since)]), Week.of(now.date()))
        if any(asdict(done).values()):
            _tell(session, done, actor=self.actor, now=now)
            _log.error("departures-were-lost", **asdict(done))


def _tell(session: Session, done: Reapplied, *, actor: str, now: dt.datetime) -> None:
    audit.append(session, at=now, actor=actor, action="subscriber.reapply", subject="departures", details=asdict(done))


def _send_away(session: Session, told: Mapping[bytes, Fate], week: Week) -> Reapplied:
    unsubscribed = erased = suppressed = 0
    for address_hash, fate in told.items():
        if not fate.departed:
            continue
        reader = subscribers.find_hash(session, address_hash)
        if reader is not None:
            _weigh(session, reader, fate)
        if fate.suppression is not None:
            suppressed += suppressions.add(session, address_hash, *fate.suppression)
        if reader is None:
            continue
        if _goes(reader, fate.erased, allowed=SuppressionReason.ERASED not in fate.suppressed):
            erased += _erase(session, reader, week)
        elif _goes(reader, fate.left):
            unsubscribed += leave(session, reader, week)
    return Reapplied(unsubscribed, erased, suppressed)


def astray(session: Session, departures: Departures) -> int:
    """How many readers are mailed though that log says that they have left; `reapply` would send them away.

    After a restored backup that is who came back by it. A few may be so for good: who came back in the week in which
    they had left, or whom another host's log says to be allowed again.
    """
    told = {address_hash: fate for address_hash, fate in fates([departures.read()]).items() if fate.departed}
    hashes, found = iter(told), 0
    while some := list(islice(hashes, _MANY)):
        suppressed = suppressions.suppressed_among(session, some)
        for address_hash, standing in subscribers.standings(session, some).items():
            if standing.status is SubscriberStatus.ACTIVE and address_hash not in suppressed:
                found += _would_go(session, standing.id, told[address_hash])
    return found


def _would_go(session: Session, row_id: bytes, fate: Fate) -> bool:
    reader = subscribers.get(session, row_id)
    if reader is None:
        return False
    _weigh(session, reader, fate)
    # Where an erasure is not allowed again, it is a suppression, too.
    return fate.suppression is not None or _goes(reader, fate.erased, allowed=True) or _goes(reader, fate.left)


def _weigh(session: Session, reader: Subscriber, fate: Fate) -> None:
    """Hold against the logs what the database knows of later weeks."""
    fate.outweigh(confirmed=_confirmed(session, reader))
    if SuppressionReason.BOUNCED in fate.suppressed:
        # Else whom a sweep on another host believed again would be suppressed for good: thousands, after an outage.
        mailed = ledger.of_reader(session, reader.id)
        weeks = [Week.of(one.at.date()) for one in mailed if one.at and one.state is DeliveryState.ACCEPTED]
        fate.outweigh(arrived=max(weeks, default=None))


def _confirmed(session: Session, reader: Subscriber) -> Week | None:
    """The week in which the reader's address was confirmed last, as far as the database tells."""
    weeks = [confirmed_in(reader.consent, reader.joined_week)]
    if reader.epoch:
        entries = audit.about(session, reader.public_id)
        weeks += [Week.of(one.at.date()) for one in entries if one.action == "subscriber.move"]
    return max((week for week in weeks if week is not None), default=None)


def _goes(reader: Subscriber, departed: Week | None, *, allowed: bool = False) -> bool:
    """Whether the row is one of before that departure, as far as weeks tell.

    A younger one is a question that was not answered yet, which does no harm; or it was added where an operator had
    `allowed` the address again. Any other that is younger was let in by a database that knew no better.
    """
    if departed is None:
        return False
    asked = reader.status is SubscriberStatus.PENDING
    return not ((asked or allowed) and reader.joined_week > departed)


def _erase(session: Session, reader: Subscriber, week: Week) -> bool:
    """As `erasure.erase` does; what keeps the address away is there already."""
    confirmations.withdraw(session, [reader.address_hash], reader=reader.id)
    notices.forget(session, reader.id)
    return subscribers.erase(session, reader.id, week=week)


def leave(session: Session, reader: Subscriber, week: Week) -> bool:
    """Mark a reader as one who left; False for one who had, and for a complaint, which weighs more and stays.

    What the address was asked before confirms nothing any more. `week` is the present one, in which it is counted.
    """
    confirmations.withdraw(session, [reader.address_hash], reader=reader.id)
    kept = {SubscriberStatus.COMPLAINED}
    return subscribers.set_status(session, reader.id, SubscriberStatus.UNSUBSCRIBED, week=week, unless=kept)
