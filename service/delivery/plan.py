"""Planning: render each chain that has readers, freeze the audience, cut it into batches, start sending."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from service import faults, log
from service.clock import Clock
from service.delivery import editions, standing, trouble
from service.delivery.editions import Content
from service.delivery.press import Press
from service.delivery.turns import OvertakenError, Turns
from service.domain.batching import batch_size, slice_bounds
from service.domain.errors import ConflictError
from service.domain.limits import INSTALLATION, NO_LIMIT, Limit
from service.domain.mailing import MailingState
from service.pace.groups import lowest_rate
from service.queue import SEND_BATCH, Bell, ring_after_commit
from service.store import Database, Session, batches, freezing, limits, locks, mailings, measures, room
from service.store.instants import stored

# PostgreSQL goes through much of the readers' table for every slice; SQLite lets nobody else write meanwhile.
_SLICE_READERS_POSTGRESQL, _SLICE_READERS_SQLITE = 350_000, 50_000
# So many are frozen at once: in each PostgreSQL uses one core. Where there are few readers it is not worth a thread.
_LINES, _FEW_READERS = 2, 100_000
_LOCK_SECONDS = 120
# Every batch that ends rings the next one, so a few are enough to set the workers going.
FIRST_RINGS = 32

_log = log.get("plan")


class _GivenUpError(Exception):
    """The mailing is not planned any more, or by somebody else."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What those who freeze one mailing share; `beside` where a second connection is there to number batches."""

    planned: mailings.Mailing
    content: Content
    lock: str
    turns: Turns
    beside: bool
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)


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

        So it is where the mailing must wait, and then it says for what. A failure to render stops before the first
        mail: the mailing is cancelled and says why.
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
            with self.database.begin() as session:
                planned = mailings.lock(session, mailing)
                if planned.state is MailingState.PLANNING:
                    standing.keep_waiting(session, planned, str(error), now=self.clock.now())
            return False
        finally:
            with self.database.begin() as session:
                locks.release(session, lock)

    def _plan(self, mailing: int, lock: str) -> bool:
        with self.database.begin() as session:
            planned = mailings.lock(session, mailing)
            if planned.state is not MailingState.PLANNING:
                return False
            standing.refuse_unsettled(session, planned.week)
            if planned.reason:
                # What it waited for is over.
                mailings.move(session, mailing, planned.state, now=self.clock.now())
            slices = planned.slices or self._slices(session)
            freezing.slices_done(session, mailing, slices=slices, done=planned.planned_slices)
            freezing.forget_numbers(session, mailing)
            content = editions.load(session, planned.week)
        try:
            self._print_all(planned, content)
            faults.point("plan-after-rendering")
            self._freeze(planned, content, slices, lock)
        except _GivenUpError:
            return False
        except editions.UnprintableError as error:
            self._give_up(planned, str(error))
            return False
        finally:
            self.database.give_back()
        return self._start(mailing)

    def _slices(self, session: Session) -> int:
        readers = freezing.candidate_count(session)
        if self.slice_readers or not session.postgresql:
            return max(1, math.ceil(readers / (self.slice_readers or _SLICE_READERS_SQLITE)))
        # Those that are frozen side by side come out even.
        return 1 if readers <= _FEW_READERS else _LINES * math.ceil(readers / (_LINES * _SLICE_READERS_POSTGRESQL))

    def _print_all(self, planned: mailings.Mailing, content: Content) -> None:
        """All chains first: an edition that cannot be printed must stop the mailing before any reader is planned."""
        restricted = planned.audience != "all"
        with self.database.begin() as session:
            whole = freezing.chains_with_readers(session, planned.id, restricted=restricted)
            self._freeze_editions(session, planned.id, content, whole)
            # Last, or a cancel would wait for the press.
            _require_own(session, planned)

    def _freeze_editions(
        self, session: Session, mailing: int, content: Content, chains: Iterable[str]
    ) -> dict[str, int | None]:
        now = self.clock.now()
        return {chain: editions.freeze(session, mailing, content, chain, self.press, now=now) for chain in chains}

    def _freeze(self, planned: mailings.Mailing, content: Content, slices: int, lock: str) -> None:
        """Freeze the slices that are left: side by side where there are connections for it, else one by one."""
        lines = max(1, min(_LINES, slices - planned.planned_slices))
        # One more connection is for the numbers of batches.
        beside = room.has_room(self.database, lines + 1)
        if not beside:
            lines = 1
        work = _Work(planned, content, lock, Turns(planned.planned_slices, slices), beside)
        if lines == 1:
            self._freeze_line(work, slices)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="freeze") as pool:
            other = pool.submit(self._freeze_line, work, slices)
            try:
                self._freeze_line(work, slices)
            except OvertakenError:
                # What the other one failed of is what is to be told.
                other.result()
                raise
            finally:
                work.turns.stop()
            other.result()

    def _freeze_line(self, work: _Work, slices: int) -> None:
        while True:
            with work.turns.next() as number:
                if number is None:
                    return
                with self.database.begin() as session:
                    self._freeze_slice(session, work.planned, work, number, slices)
            faults.point("plan-between-slices")

    def _freeze_slice(self, session: Session, planned: mailings.Mailing, work: _Work, number: int, slices: int) -> None:
        """One transaction. What it locks of others it locks when all else is done, and for a moment."""
        if not work.beside:
            # One connection does it all, and a mailing is locked before batches are numbered, as by everybody.
            _require_own(session, planned, number)
        low, high = slice_bounds(number, slices)
        restricted = planned.audience != "all"
        taken = freezing.take_slice(session, planned.id, low, high, restricted=restricted, now=self.clock.now())
        with self._numbering(session, work) as numbering:
            cut = self._cut(numbering, work, taken, slices)
        faults.point("plan-slice-numbered")
        freezing.insert_deliveries(session, planned.id, cut, self.clock.now())

        def end() -> None:
            work.turns.wait(number)
            _require_own(session, planned, number)
            freezing.insert_batches(session, planned.id, taken, cut)
            freezing.slices_done(session, planned.id, slices=slices, done=number + 1)
            measures.note_progress(session, planned.id, self.clock.now())
            faults.point("plan-slice-commit")

        session.before_commit(end)

    @contextmanager
    def _numbering(self, session: Session, work: _Work) -> Iterator[Session]:
        """The transaction in which batches get their numbers: a short one, so that nobody waits for the slice."""
        if not work.beside:
            yield session
            return
        with work.one_at_a_time, self.database.begin() as beside:
            # Editions are printed here, too, and stay whatever becomes of the slice.
            _require_own(beside, work.planned)
            yield beside

    def _cut(self, session: Session, work: _Work, taken: freezing.Slice, slices: int) -> freezing.Cut:
        planned = work.planned
        locks.extend(session, work.lock, _LOCK_SECONDS)
        rate = limits.every(session).get(INSTALLATION, NO_LIMIT).over(Limit(rate=self.rate)).rate
        return freezing.number_batches(
            session,
            planned.id,
            taken,
            self._freeze_editions(session, planned.id, work.content, sorted(taken.mailable)),
            batch_size=batch_size(lowest_rate(rate, planned.rate), taken.readers * slices, limit=self.batch_limit),
            beside=work.beside,
        )

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

    def _give_up(self, planned: mailings.Mailing, reason: str) -> None:
        now = self.clock.now()
        state = MailingState.CANCELLED
        with suppress(_GivenUpError), self.database.begin() as session:
            _require_own(session, planned)
            mailings.move(session, planned.id, state, now=now, reason=reason)
            trouble.tell(session, self.bell, planned.id, trouble.UNPRINTABLE, reason, now=now)
        _log.error("mailing-unprintable", mailing=planned.id, reason=reason)


def _require_own(session: Session, planned: mailings.Mailing, number: int | None = None) -> None:
    """Lock the mailing; raises _GivenUpError unless it is being planned as it was found, and that slice is the next."""
    found = mailings.lock(session, planned.id)
    # Whoever retried it after a cancel may have corrected the issue: it is planned anew, with what is to be read then.
    if found.state is not MailingState.PLANNING or found.begun_anew_at != planned.begun_anew_at:
        raise _GivenUpError
    if number is not None and found.planned_slices != number:
        raise _GivenUpError
