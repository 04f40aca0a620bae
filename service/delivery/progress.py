"""Progress: numbers that add up, and the end of a mailing when no delivery is left to do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from service import log
from service.domain.mailing import MailingState
from service.domain.retries import JITTER, SCHEDULE
from service.pace.groups import lowest_rate
from service.store import Session, batches, hosts, interventions, locks, mailing_numbers, mailings
from service.store.instants import stored
from service.store.mailing_numbers import Waits
from service.store.mailings import Counts, Mailing

# Whoever is deferred waits at least so long.
_SHORTEST_WAIT = SCHEDULE[0].total_seconds() * (1 - JITTER)

# A million letters are counted within a second.
_COUNT_SECONDS = 600

_log = log.get("progress")


@dataclass(frozen=True, slots=True)
class Status:
    """A mailing in numbers: candidates = planned + excluded, planned = the sum of `counts` over its states."""

    mailing: Mailing
    counts: Counts
    editions: Mapping[str, Counts]
    now: dt.datetime
    revisions: Mapping[str, Mapping[int, Counts]] = field(default_factory=dict)
    waits: Waits = field(default_factory=Waits)

    @property
    def corrected(self) -> bool:
        """Whether the issue was corrected while the mailing was paused: then not everybody got the same."""
        return any(max(by_revision) > 1 for by_revision in self.revisions.values())

    @property
    def excluded(self) -> int:
        """Subscribers of the audience who were not planned."""
        return sum(self.mailing.excluded.values())

    @property
    def candidates(self) -> int:
        """Everybody the audience named."""
        return self.counts.planned + self.excluded

    @property
    def done(self) -> int:
        """Deliveries that need nothing more."""
        return self.counts.planned - self.counts.unfinished

    @property
    def not_reached(self) -> int:
        """Readers who should have got the mail and, as far as we know, did not."""
        return self.counts.refused + self.counts.uncertain + self.counts.expired


def status(session: Session, mailing: int) -> Status:
    """The mailing's numbers now, a sum over its batches, in one statement; raises NotFoundError."""
    found = mailing_numbers.of_mailing(session, mailing)
    by_chain = {chain: sum(counts.values(), Counts()) for chain, counts in found.revisions.items()}
    counts = sum(by_chain.values(), Counts())
    return Status(found.mailing, counts, by_chain, found.now, found.revisions, found.waits)


def finish(session: Session, mailing: int, *, now: dt.datetime) -> bool:
    """Whether the mailing has just become `sent`: it was sending, and no batch of it is open."""
    if batches.open_count(session, mailing):
        return False
    # Counted again under the lock: a retry that came first has opened batches.
    if mailings.lock(session, mailing).state is not MailingState.SENDING or batches.open_count(session, mailing):
        return False
    # The numbers that say so are held against the letters themselves, once more and for the last time.
    if _put_right(session, mailing) and batches.open_count(session, mailing):
        return False
    mailings.move(session, mailing, MailingState.SENT, now=now)
    _log.info("mailing-sent", mailing=mailing)
    return True


def _put_right(session: Session, mailing: int) -> bool:
    """Whether the counts of some batch were not those of its letters; they are now."""
    wrong = interventions.miscounted(session, mailing)
    if wrong:
        # Before its batches, as everywhere.
        mailings.lock(session, mailing)
        _log.error("batches-miscounted", mailing=mailing, batches=wrong[:20], count=len(wrong))
        interventions.count_anew(session, wrong)
    return bool(wrong)


def tidy(session: Session, *, now: dt.datetime) -> None:
    """Put right what dead or late workers left: see each step. Whatever its state, a mailing comes to its end.

    A batch is closed whose worker died after its last letter. A mailing that was sent goes on where a journal that came
    late gave a letter back; where it had been cancelled, that is one which was named since, see `outcomes.LEFT`. What
    came back to a cancelled mailing is cancelled, too. Then finish what is finished. Now and then all letters are
    counted of what is being sent, or was cancelled and has not come to its end.
    """
    if locks.take(session, "count", _COUNT_SECONDS):
        going_on = [one.id for one in mailings.in_states(session, [MailingState.SENDING, MailingState.PAUSED])]
        for counted in sorted([*going_on, *batches.unfinished_mailings(session, [MailingState.CANCELLED])]):
            _put_right(session, counted)
    open_states = (MailingState.SENDING, MailingState.SENT, MailingState.PAUSED, MailingState.CANCELLED)
    for mailing in batches.unfinished_mailings(session, open_states):
        state = mailings.lock(session, mailing).state
        batches.close_done(session, mailing)
        waiting = batches.waiting_count(session, mailing)
        if waiting and state is MailingState.CANCELLED:
            interventions.cancel_rest(session, mailing, now_ms=stored(now))
        elif waiting and state is MailingState.SENT and not hosts.awaited(session):
            mailings.move(session, mailing, MailingState.SENDING, now=now)
    for sending in mailings.in_states(session, [MailingState.SENDING]):
        finish(session, sending.id, now=now)


def eta_seconds(found: Status, installation_rate: float) -> float | None:
    """Seconds until nothing is left at the set rate, or at the speed so far, if nobody is deferred again.

    Not before deferred letters are due, nor held ones let go. None where none of these says anything.
    """
    if found.mailing.state is not MailingState.SENDING:
        return None
    waits, rate = found.waits, _rate(found, installation_rate)
    ready = max(0, found.counts.pending + found.counts.attempting - waits.held)
    if (ready or waits.held) and not rate:
        return None
    seconds = max(
        ready / rate if ready else 0.0,
        _until(found, waits.due_at),
        _until(found, waits.held_until) + (waits.held / rate if waits.held else 0.0),
    )
    return None if waits.undated and seconds < _SHORTEST_WAIT else round(seconds, 1)


def _rate(found: Status, installation_rate: float) -> float:
    """In letters per second; 0 where it is neither set nor known."""
    rate = lowest_rate(installation_rate, found.mailing.rate)
    if rate or not found.mailing.started_at:
        return rate
    seconds = (found.now - found.mailing.started_at).total_seconds()
    return found.done / seconds if seconds > 0 else 0.0


def _until(found: Status, instant: dt.datetime | None) -> float:
    return 0.0 if instant is None else max(0.0, (instant - found.now).total_seconds())
