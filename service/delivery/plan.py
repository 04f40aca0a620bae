"""Planning: render each chain that has readers, freeze the audience, cut it into batches, start sending."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from service import faults, log
from service.clock import Clock
from service.delivery import editions, standing, trouble
from service.delivery.editions import Content
from service.delivery.press import Press
from service.domain.batching import batch_size, slice_bounds
from service.domain.errors import ConflictError
from service.domain.limits import INSTALLATION, NO_LIMIT, Limit
from service.domain.mailing import MailingState
from service.pace.groups import lowest_rate
from service.queue import SEND_BATCH, Bell, ring_after_commit
from service.store import Database, Session, batches, freezing, limits, locks, mailings, measures
from service.store.instants import stored

# PostgreSQL goes through much of the readers' table for every slice; SQLite lets nobody else write meanwhile.
_SLICE_READERS_POSTGRESQL, _SLICE_READERS_SQLITE = 350_000, 50_000
_LOCK_SECONDS = 120
# Every batch that ends rings the next one, so a few are enough to set the workers going.
FIRST_RINGS = 32

_log = log.get("plan")


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans mailings: any number may try, one at a time works, and another goes on where a dead one stopped.

    `rate` is the installation's, in mails per second; `batch_limit` the most letters in a batch; `slice_readers` about
    how many readers are frozen in one transaction, None for what suits the database.
    """

    database: Database
    press: Press
    bell: Bell
    clock: Clock
    rate: float
    batch_limit: int
    slice_readers: int | None = None

    def plan(self, mailing: int) -> bool:
        """Whether the mailing is planned and sending now; False where somebody else plans it, or it is not planning.

        A failure to render stops before the first mail: the mailing is cancelled and says why.
        """
        lock = f"plan-{mailing}"
        faults.point("plan-before-lock")
        with self.database.begin() as session:
            if not locks.take(session, lock, _LOCK_SECONDS):
                return False
        faults.point("plan-after-lock")
        try:
            return self._plan(mailing, lock)
        except ConflictError as error:
            _log.warning("mailing-waits", mailing=mailing, reason=str(error))
            return False
        except editions.UnprintableError as error:
            self._give_up(mailing, str(error))
            return False
        finally:
            with self.database.begin() as session:
                locks.release(session, lock)

    def _plan(self, mailing: int, lock: str) -> bool:
        with self.database.begin() as session:
            planned = mailings.get(session, mailing)
            if planned.state is not MailingState.PLANNING:
                return False
            standing.refuse_unsettled(session, planned.week)
            slices = planned.slices or self._slices(session)
            freezing.slices_done(session, mailing, slices=slices, done=planned.planned_slices)
            content = editions.load(session, planned.week)
        restricted = planned.audience != "all"
        # All chains first: an edition that cannot be printed must stop the mailing before any reader is planned.
        with self.database.begin() as session:
            whole = freezing.chains_with_readers(session, mailing, restricted=restricted)
            self._freeze_editions(session, mailing, content, whole)
        faults.point("plan-after-rendering")
        for number in range(planned.planned_slices, slices):
            with self.database.begin() as session:
                if mailings.lock(session, mailing).state is not MailingState.PLANNING:
                    return False
                locks.extend(session, lock, _LOCK_SECONDS)
                self._freeze_slice(session, planned, content, number, slices)
                faults.point("plan-slice-commit")
            faults.point("plan-between-slices")
        return self._start(mailing)

    def _slices(self, session: Session) -> int:
        usual = _SLICE_READERS_POSTGRESQL if session.postgresql else _SLICE_READERS_SQLITE
        return max(1, math.ceil(freezing.candidate_count(session) / (self.slice_readers or usual)))

    def _freeze_editions(
        self, session: Session, mailing: int, content: Content, chains: Iterable[str]
    ) -> dict[str, int | None]:
        now = self.clock.now()
        return {chain: editions.freeze(session, mailing, content, chain, self.press, now=now) for chain in chains}

    def _freeze_slice(
        self, session: Session, planned: mailings.Mailing, content: Content, number: int, slices: int
    ) -> None:
        low, high = slice_bounds(number, slices)
        restricted = planned.audience != "all"
        rate = limits.every(session).get(INSTALLATION, NO_LIMIT).over(Limit(rate=self.rate)).rate
        taken = freezing.take_slice(session, planned.id, low, high, restricted=restricted, now=self.clock.now())
        freezing.freeze_slice(
            session,
            planned.id,
            taken,
            self._freeze_editions(session, planned.id, content, sorted(taken.mailable)),
            batch_size=batch_size(lowest_rate(rate, planned.rate), limit=self.batch_limit),
            now=self.clock.now(),
        )
        freezing.slices_done(session, planned.id, slices=slices, done=number + 1)
        measures.note_progress(session, planned.id, self.clock.now())

    def _start(self, mailing: int) -> bool:
        now = self.clock.now()
        faults.point("plan-before-start")
        with self.database.begin() as session:
            # A cancel that came first wins.
            started = mailings.move(session, mailing, MailingState.SENDING, now=now, from_state=MailingState.PLANNING)
            if started:
                for batch in batches.to_ring(
                    session, now_ms=stored(now), quiet_seconds=0, limit=FIRST_RINGS, mailing=mailing
                ):
                    ring_after_commit(session, self.bell, SEND_BATCH, batch)
            faults.point("plan-start-commit")
        faults.point("plan-after-start")
        _log.info("mailing-planned", mailing=mailing, sending=started)
        return started

    def _give_up(self, mailing: int, reason: str) -> None:
        now = self.clock.now()
        with self.database.begin() as session:
            state = MailingState.CANCELLED
            mailings.move(session, mailing, state, now=now, reason=reason, from_state=MailingState.PLANNING)
            trouble.tell(session, self.bell, mailing, trouble.UNPRINTABLE, reason, now=now)
        _log.error("mailing-unprintable", mailing=mailing, reason=reason)
