"""The sweep: what is due by the database, whatever hints were lost. Any number of processes may run it, at any time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service import faults, log
from service.clock import Clock
from service.delivery import breaking, notices, progress, release, resolving, retention, slots
from service.delivery.dispatch import RING_QUIET_SECONDS
from service.delivery.reconciling import Reconciler
from service.delivery.recovery import Recovery
from service.delivery.release import Check
from service.domain.errors import TydzenError
from service.domain.mailing import MailingState
from service.queue import ANSWER_SIGNUP, PLAN_MAILING, REMIND, SEND_BATCH, Bell, ring_after_commit
from service.store import (
    Database,
    Session,
    batches,
    breakers,
    confirmations,
    locks,
    mailings,
    rings,
    signups,
)
from service.store.instants import stored

# Shorter than the tick, so that a sweep that died is missed by one tick at the most; by as much as the first of a
# process takes longer to come to it, or the second would find it held.
_LOCK_SECONDS = 10
# A few at a time: each batch that ends rings the next, so these only restart the chain where all hints were lost.
_RINGS = 8
# A worker that has nothing else to do takes up a hint within this time.
_TAKEN_UP_SECONDS = 5
# What is kept for days is looked at a few times a day.
_FORGET_SECONDS = 6 * 3600

_log = log.get("sweep")


@dataclass(frozen=True, slots=True)
class Sweep:
    """Due slots, due mailings, lost hints, dead workers' journals, finished mailings.

    `resend_uncertain` is the installation's policy for letters of which nobody knows whether they arrived; `relays`
    names those that its letters go through.
    """

    database: Database
    bell: Bell
    check: Check
    clock: Clock
    recovery: Recovery
    books: Reconciler
    resend_uncertain: bool = False
    relays: Callable[[], Sequence[str]] = tuple

    def run(self) -> bool:
        """Whether this process did the common part; each host settles its own journals every time.

        What one part did not foresee is raised once all have had their turn.
        """
        faults.point("sweep-begun")
        # First of all: a database that was set back must learn what it does not know before anything is settled in it.
        self.books.compare()
        self.recovery.settle_journals()
        with self.database.begin() as session:
            if not locks.take(session, "sweep", _LOCK_SECONDS):
                return False
        faults.point("sweep-locked")
        self.recovery.give_up_lost_hosts()
        # Outside of a transaction: a broker may take seconds to answer.
        met = [self._guarded("doubt", self._doubt), *map(self._done, self._parts())]
        unforeseen = [error for error in met if error]
        if unforeseen:
            raise unforeseen[0]
        _log.debug("swept", at=self.clock.now().isoformat())
        return True

    def _done(self, part: Callable[[Session], None]) -> Exception | None:
        """A transaction each: what one part finds wrong must neither undo the others nor keep them waiting."""
        return self._guarded(part.__name__.strip("_"), lambda: self._do(part))

    def _do(self, part: Callable[[Session], None]) -> None:
        with self.database.begin() as session:
            part(session)
            faults.point("sweep-part-commit")
        faults.point("sweep-part-done")

    def _guarded(self, name: str, work: Callable[[], None]) -> Exception | None:
        """What `work` met that nobody foresaw; what was foreseen is logged, too, and ends here."""
        try:
            work()
        except TydzenError as error:
            _log.warning("sweep-part-failed", part=name, error=str(error))
        except Exception as error:  # noqa: BLE001  # it is raised when the other parts have had their turn
            _log.error("sweep-part-failed", part=name, error=type(error).__name__, exc_info=error)
            return error
        return None

    def _parts(self) -> Sequence[Callable[[Session], None]]:
        return (
            *(self._slots, self._release, self._plan, self._uncertain),
            *(self._logins, self._tidy, self._ring, self._signups, self._notices),
            *(self._forgetting(kind) for kind in retention.KINDS),
        )

    def _forgetting(self, kind: retention.Kind) -> Callable[[Session], None]:
        def forget(session: Session) -> None:
            if not kind.seldom or locks.take(session, f"forget-{kind.name}", _FORGET_SECONDS):
                kind.forget(session, self.clock.now())

        forget.__name__ = f"forget-{kind.name}"
        return forget

    def _slots(self, session: Session) -> None:
        now = self._earlier(session)
        slots.run_due_slots(session, self.bell, self.check, now=now)
        slots.warn_ahead(session, self.bell, self.check, now=now)

    def _earlier(self, session: Session) -> dt.datetime:
        """The earlier of two clocks: a machine whose own runs ahead must not send too soon, which is for good."""
        return min(self.clock.now(), session.now())

    def _notices(self, session: Session) -> None:
        notices.ring_due(session, self.bell, now=self.clock.now())

    def _signups(self, session: Session) -> None:
        now = self.clock.now()
        for signup in signups.due(session, now):
            ring_after_commit(session, self.bell, ANSWER_SIGNUP, signup)
        for confirmation in confirmations.forgotten(session, now):
            ring_after_commit(session, self.bell, REMIND, confirmation.hex())

    def _release(self, session: Session) -> None:
        release.release_due(session, self.bell, self.check, now=self._earlier(session))

    def _plan(self, session: Session) -> None:
        for mailing in mailings.in_states(session, [MailingState.PLANNING]):
            ring_after_commit(session, self.bell, PLAN_MAILING, mailing.id)

    def _ring(self, session: Session) -> None:
        due = batches.to_ring(session, now_ms=stored(self.clock.now()), quiet_seconds=RING_QUIET_SECONDS, limit=_RINGS)
        for batch in due:
            ring_after_commit(session, self.bell, SEND_BATCH, batch)

    def _doubt(self) -> None:
        # A broker that was emptied, or died with what it held, tells nobody.
        if self.bell.empty():
            self._do(lambda session: rings.doubt(session, older_than_seconds=_TAKEN_UP_SECONDS))

    def _logins(self, session: Session) -> None:
        # Before what nobody tells any more is forgotten: a mailing may be over within a minute.
        breaking.logins_refused(session, self.bell, self.relays(), now=self.clock.now())

    def _tidy(self, session: Session) -> None:
        progress.tidy(session, now=self.clock.now())
        breakers.prune(session, now=self.clock.now())

    def _uncertain(self, session: Session) -> None:
        # After the journals: what they decide is not uncertain.
        if self.resend_uncertain:
            resolving.resend_once(session, self.bell, now=self.clock.now())
