"""The dispatcher of one worker process: claims a batch when a hint rings, sends it, rings for the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from service import faults, log
from service.clock import Clock, suspended_monotonic
from service.delivery import editions, progress, trouble, unprintable
from service.delivery.editions import UnprintableError
from service.delivery.idleness import IDLE_SECONDS, Idleness
from service.delivery.letters import Stationery
from service.delivery.limits import Limits
from service.delivery.line import Line, LineKeeper
from service.delivery.means import Means
from service.delivery.meter import BATCHES, Meter
from service.delivery.offload import Offload
from service.delivery.patience import Patience, until_there
from service.delivery.press import Press
from service.delivery.reconciling import Look, Reconciler, believing
from service.delivery.routes import Routes
from service.delivery.send import BatchRun
from service.delivery.watch import Watch
from service.domain.delivery import SkipReason
from service.domain.errors import UnavailableError
from service.mail.segments import Rendition
from service.pace.bucket import Pace
from service.queue import SEND_BATCH, Bell, ring_after_commit
from service.store import (
    Database,
    DatabaseAwayError,
    Session,
    batches,
    corrections,
    gate,
    mailings,
    publication,
    renditions,
)
from service.store.batches import Claim
from service.store.instants import stored
from service.store.mailings import Mailing

# As many renditions as one issue has chains; an old mailing's make room.
_CACHED_RENDITIONS = 16

# A batch that was rung and is still not held after so long: its hint is lost.
RING_QUIET_SECONDS = 60.0

# Batches in work at once in one process; how often it is looked whether they only wait.
_RUNS = 8
_LOOK_SECONDS = 0.25
# So long one call goes on with further batches; then the process may be recycled, or has another task.
_FOLLOW_SECONDS = 10.0

_log = log.get("dispatch")


@dataclass(slots=True)
class _Running:
    """One batch in work, and whether it only waits."""

    claim: Claim
    # Whether it will look for the end of its mailing no more, for it is looking now, or has.
    finishing: bool = False
    _run: BatchRun | None = None
    _idleness: Idleness | None = None

    def watch(self, run: BatchRun) -> None:
        """It has begun."""
        self._run, self._idleness = run, Idleness(lambda: run.waiting.seconds)

    @property
    def ending(self) -> bool:
        """Whether all its letters have been handed over."""
        return self._run is not None and self._run.ending

    @property
    def waits_for_mailing(self) -> bool:
        """Whether it waits for the rate of its mailing."""
        return self._run is not None and self._run.waiting.for_mailing

    def will_finish(self, mailing: int) -> bool:
        """Whether it will look for the end of that mailing, later than now."""
        return self.claim.mailing == mailing and not self.finishing

    def idle(self, now: float) -> bool:
        """Whether it has waited for long, so that another batch may be taken up beside it."""
        return self._idleness is not None and self._idleness.look(now)


_Runs = dict[asyncio.Task[None], _Running]


@dataclass(slots=True)
class Dispatcher:
    """Belongs to one process and one event loop; sends one batch, others beside it while it waits, and others after it.

    The next batch begins as soon as the last letter of the one before is handed over: to claim and to finish one takes
    a dozen round trips to the database, in which the wire would lie idle.
    """

    database: Database
    pace: Pace
    stationery: Stationery
    press: Press
    bell: Bell
    clock: Clock
    lines: LineKeeper
    offload: Offload
    stopping: Callable[[], bool]
    limits: Limits
    lease_seconds: float
    meter: Meter = field(default_factory=Meter)
    # None where nothing can set the database back: there is no journal but this process's.
    books: Reconciler | None = None
    follow_seconds: float = _FOLLOW_SECONDS
    _routes: Routes = field(init=False)
    _renditions: dict[str, Rendition] = field(default_factory=dict)
    _watch: Watch = field(init=False)
    # Of the call at work: done once a run has handed over its last letter.
    _handed_over: asyncio.Future[None] | None = None

    def __post_init__(self) -> None:
        """What outlives each batch: which relay had how much, and what was refused."""
        self._routes = Routes(self.limits, self.clock.now)
        self._watch = Watch(self.database.sealer)

    async def send_batch(self, batch: int) -> bool:
        """Whether the batch was ours to send; a hint about one that is closed, held or paused does nothing.

        While it only waits, for a slow domain or a slow relay, other due batches are sent beside it; and for
        `follow_seconds` others begin where one ends.
        """
        lines = await self.lines.ready()
        faults.point("before-claim")
        claim = await self.offload.database(lambda: self._claim(batch, lines[0].sender))
        if claim is None:
            return False
        faults.point("after-claim")
        runs: _Runs = {}
        self._start(lines, claim, runs)
        try:
            await self._all(lines, runs)
        finally:
            # One has failed: the others have been told, and end as soon as they are owed no reply.
            await asyncio.gather(*runs, return_exceptions=True)
        await self.offload.database(self._store_measures)
        return True

    async def _all(self, lines: tuple[Line, ...], runs: _Runs) -> None:
        """Until every run has ended; raises what one of them raised."""
        ask_at, follow_until = 0.0, suspended_monotonic() + self.follow_seconds
        full: tuple[Line, ...] = ()
        while runs:
            await self._wait(runs, full)
            for task in [task for task in runs if task.done()]:
                del runs[task]
                task.result()
            now = suspended_monotonic()
            # Each looks, so that none is forgotten while another works.
            idle = [running.idle(now) for running in runs.values()]
            ending = now < follow_until and all(running.ending for running in runs.values())
            full = ()
            if not idle or not (ending or all(idle)) or len(runs) >= _RUNS or now < ask_at:
                continue
            if not self._has_room(lines):
                # What was handed over last fills the queue: that room comes is then what to wait for.
                full = lines if ending and not self.stopping() else ()
                continue
            without = {running.claim.provider for running in runs.values() if not running.ending} - {""}
            beside = [running.claim.batch for running in runs.values()]
            slow = {running.claim.mailing for running in runs.values() if running.waits_for_mailing}
            claim_another = partial(self._claim_another, lines[0].sender, without, slow, beside)
            another = await self.offload.database(claim_another)
            if another is not None:
                self._start(lines, another, runs)
            if another is None or not ending:
                ask_at = now + IDLE_SECONDS

    async def _wait(self, runs: Iterable[asyncio.Task[None]], full: Iterable[Line]) -> None:
        """Until something has happened, one of the `full` lines has room, or for a moment."""
        loop = asyncio.get_running_loop()
        self._handed_over = loop.create_future()
        rooms = [loop.create_task(_room(line)) for line in full]
        try:
            anything = (*runs, self._handed_over, *rooms)
            await asyncio.wait(anything, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for room in rooms:
                room.cancel()

    def _note_handed_over(self) -> None:
        if self._handed_over is not None and not self._handed_over.done():
            self._handed_over.set_result(None)

    def _start(self, lines: tuple[Line, ...], claim: Claim, runs: _Runs) -> None:
        running = _Running(claim)
        runs[asyncio.get_running_loop().create_task(self._send(lines, running, runs))] = running

    def _note_dots(self, lines: tuple[Line, ...]) -> None:
        for line in lines:
            self.meter.dots(line.wire.dot_seconds)

    def _has_room(self, lines: tuple[Line, ...]) -> bool:
        if self.stopping():
            return False
        try:
            return any(line.wire.room_now(1) for line in lines)
        except UnavailableError:
            return False

    async def _send(self, lines: tuple[Line, ...], running: _Running, runs: _Runs) -> None:
        """Send one claimed batch, with one log line; a database that goes away meanwhile is waited for.

        Of the `runs` of this call, as they come and go, the last of a mailing looks whether that is its end.
        """
        claim = running.claim
        patience = Patience(self.stopping)
        there = partial(until_there, self.offload, patience=patience, batch=claim.batch)
        try:
            run = await there(lambda: self._prepare(claim, lines))
        except UnprintableError as error:
            running.finishing = True
            problem = str(error)
            await there(lambda: self._set_aside(claim, problem))
            return
        if run is None:
            running.finishing = True
            await there(lambda: self._finish(claim))
            return
        running.watch(run)
        faults.point("after-prepare")
        async with self.lines.accounted():
            await run.run()
        self._note_dots(lines)
        self.meter.count(BATCHES)
        faults.point("before-finish")
        running.finishing = True
        last = not any(one.will_finish(claim.mailing) for task, one in runs.items() if not task.done())
        if last or run.objection is not None:
            await there(lambda: self._finish(claim, run.objection))
        faults.point("after-finish")
        _log.info("batch-sent", batch=claim.batch, mailing=claim.mailing, fence=claim.fence, letters=run.sent)

    def _claim_another(
        self, sender: int, without: Collection[str], slow: Collection[int], beside: Collection[int]
    ) -> Claim | None:
        now_ms = stored(self.clock.now())
        try:
            with self.database.begin() as session:
                if self.books is not None and not self.books.believed(session):
                    return None  # the next hint compares
                return batches.claim_another(
                    session,
                    sender=sender,
                    lease_seconds=self.lease_seconds,
                    now_ms=now_ms,
                    without=without,
                    slow=slow,
                    beside=beside,
                )
        except DatabaseAwayError:
            return None  # the runs there are wait for it, and say so

    def _claim(self, batch: int, sender: int) -> Claim | None:
        def claim(session: Session) -> Claim | None:
            now = self.clock.now()
            claim = batches.claim(session, batch, sender=sender, lease_seconds=self.lease_seconds, now_ms=stored(now))
            if self.limits.stale:
                self.limits.read(session, now)
            faults.point("claim-commit")
            return claim

        return believing(self.database, self.books, claim)

    def _returned(self) -> None:
        """The database was away: what answers now may be a copy that lagged behind."""
        if self.books is not None:
            self.books.compare(Look.OPEN)

    def _prepare(self, claim: Claim, lines: tuple[Line, ...]) -> BatchRun | None:
        """What the batch needs, and who is due; None where its chain has no edition, whose readers are skipped."""
        with self.database.begin() as session:
            newest = renditions.newest_id(session, claim.mailing, claim.chain)
            corrected = claim.rendition is not None and newest is not None and newest != claim.rendition
            if (corrected or claim.rendition is None) and not batches.renew(session, claim, self.lease_seconds):
                # Paused meanwhile, or moved already, by a commit that nobody knew of or by who has the batch now:
                # which edition it gets is decided by whoever goes on with it.
                batches.give_back(session, claim)
                return None
            if corrected:
                # The issue was corrected since: nobody gets the old edition any more.
                assert newest is not None
                moved = corrections.renew_batch(session, claim, newest)
                if moved is not None:
                    ring_after_commit(session, self.bell, SEND_BATCH, moved)
                    return None
                claim = replace(claim, rendition=newest)
            rendition = self._rendition(session, claim)
            if rendition is None:
                waiting = batches.take_due(session, claim, stored(self.clock.now()))
                gate.skip(session, claim.batch, waiting, SkipReason.NO_EDITION, stored(self.clock.now()))
                batches.give_back(session, claim)
                return None
            domain = publication.sender_domain(session)
            mailing = mailings.get(session, claim.mailing)
            run = self._run(lines, claim, rendition, domain, mailing)
            run.prepare(session)
        if self.books is not None:
            self.books.begin(mailing)
        return run

    def _run(
        self, lines: tuple[Line, ...], claim: Claim, rendition: Rendition, domain: str, mailing: Mailing
    ) -> BatchRun:
        means = Means(
            self.database,
            self.pace,
            self.stationery,
            self.offload,
            self.clock.now,
            self.stopping,
            self.limits,
            self._routes,
            self.lease_seconds,
            self.meter,
            self.bell,
            self._watch,
            self._returned,
        )
        return BatchRun(means, lines, claim, rendition, domain, self._note_handed_over, mailing.rate)

    def _rendition(self, session: Session, claim: Claim) -> Rendition | None:
        number = claim.rendition
        if number is None:
            # Readers who chose other languages since: their edition is printed from the same content.
            content = editions.load(session, mailings.get(session, claim.mailing).week)
            number = editions.freeze(session, claim.mailing, content, claim.chain, self.press, now=self.clock.now())
            if number is None:
                return None
            batches.set_rendition(session, claim, number)
        # By its digest: a number that was never committed, or was on a server that is gone, may be another one's now.
        digest = renditions.digest_of(session, number)
        if digest is None:
            return None
        if digest not in self._renditions:
            row = renditions.get(session, number)
            while len(self._renditions) >= _CACHED_RENDITIONS:
                self._renditions.pop(next(iter(self._renditions)))
            self._renditions[digest] = Rendition.from_bytes(row.content, digest=digest)
        return self._renditions[digest]

    def _set_aside(self, claim: Claim, problem: str) -> None:
        with self.database.begin() as session:
            unprintable.set_aside(session, self.bell, claim, problem, now=self.clock.now())

    def _finish(self, claim: Claim, objection: str | None = None) -> None:
        now = self.clock.now()
        with self.database.begin() as session:
            if objection is not None:
                trouble.tell(session, self.bell, claim.mailing, trouble.REFUSED_CONTENT, objection, now=now)
            progress.finish(session, claim.mailing, now=now)
            # After the mailing is locked, as whoever sets it going does: the other way round the two would deadlock.
            self.meter.store(session, now)
            faults.point("finish-commit")

    def _store_measures(self) -> None:
        # What is not stored now is with the next batch.
        with suppress(DatabaseAwayError), self.database.begin() as session:
            self.meter.store(session, self.clock.now(), at_once=True)

    def ring_next(self) -> None:
        """Ring for one more batch of the installation, if there is one: work goes on even where hints were lost."""
        if self.stopping():
            return
        now_ms = stored(self.clock.now())
        with self.database.begin() as session:
            for following in batches.to_ring(session, now_ms=now_ms, quiet_seconds=RING_QUIET_SECONDS, limit=1):
                ring_after_commit(session, self.bell, SEND_BATCH, following)
        faults.point("after-ring")


async def _room(line: Line) -> None:
    """Until the line has room; a moment where it takes no more."""
    try:
        await line.wire.room(1)
    except UnavailableError:
        await asyncio.sleep(_LOOK_SECONDS)
