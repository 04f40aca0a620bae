"""What is written down of those who leave, and made true again after a backup was restored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Protocol

from service import log
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.store import Session, audit, confirmations, subscribers, suppressions
from service.store.departures import Departure, Step
from service.store.subscribers import Subscriber

_log = log.get("departures")


class Departures(Protocol):
    """Where departures are written down: `store.departures.DepartureLog`."""

    def record(self, departures: Iterable[Departure]) -> None:
        """Append; durable when this returns."""
        ...

    def read(self) -> Iterable[Departure]:
        """All, oldest first."""
        ...


class Nowhere:
    """Departures of a dry run: none happen."""

    def record(self, departures: Iterable[Departure]) -> None:
        """Keep nothing."""

    def read(self) -> Iterable[Departure]:
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


@dataclass(slots=True)
class _Fate:
    left: bool = False
    erased: bool = False
    suppression: tuple[SuppressionReason, Week] | None = None

    def follow(self, departure: Departure) -> None:
        match departure.step:
            case Step.UNSUBSCRIBED:
                self.left = True
            case Step.CONFIRMED:
                self.left, self.erased, self.suppression = False, False, None
            case Step.LIFTED:
                self.erased, self.suppression = False, None
            case step:
                self.erased = self.erased or step is Step.ERASED
                self.suppression = (SuppressionReason(step.value), departure.week)


def reapply(session: Session, departures: Departures, *, actor: str, now: dt.datetime) -> Reapplied:
    """Send away again everybody whose departure the database does not know, as after a restored backup. Idempotent."""
    fates: dict[bytes, _Fate] = {}
    for departure in departures.read():
        fates.setdefault(departure.address_hash, _Fate()).follow(departure)
    unsubscribed = erased = suppressed = 0
    week = Week.of(now.date())
    for address_hash, fate in fates.items():
        if fate.suppression is not None:
            suppressed += suppressions.add(session, address_hash, *fate.suppression)
        reader = subscribers.find_hash(session, address_hash)
        if reader is None:
            continue
        if fate.erased:
            erased += subscribers.erase(session, reader.id, week=week)
        elif fate.left:
            unsubscribed += leave(session, reader, week)
    done = Reapplied(unsubscribed, erased, suppressed)
    audit.append(session, at=now, actor=actor, action="subscriber.reapply", subject="departures", details=asdict(done))
    return done


def leave(session: Session, reader: Subscriber, week: Week) -> bool:
    """Mark a reader as one who left; False for one who had, and for a complaint, which weighs more and stays.

    What the address was asked before confirms nothing any more. `week` is the present one, in which it is counted.
    """
    confirmations.withdraw(session, [reader.address_hash], reader=reader.id)
    kept = {SubscriberStatus.COMPLAINED}
    return subscribers.set_status(session, reader.id, SubscriberStatus.UNSUBSCRIBED, week=week, unless=kept)
