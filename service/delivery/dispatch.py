"""The dispatcher of one worker process: claims a batch when a hint rings, sends it, rings for the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from service import faults, log
from service.clock import Clock
from service.delivery import editions, progress, trouble
from service.delivery.letters import Stationery
from service.delivery.line import Line, LineKeeper
from service.delivery.meter import BATCHES, Meter
from service.delivery.offload import Offload
from service.delivery.press import Press
from service.delivery.send import BatchRun, Means
from service.domain.delivery import SkipReason
from service.mail.segments import Rendition
from service.pace.bucket import Pace
from service.queue import SEND_BATCH, Bell, ring_after_commit
from service.store import Database, Session, batches, gate, mailings, publication, renditions
from service.store.batches import Claim
from service.store.instants import stored

# As many renditions as one issue has chains; an old mailing's make room.
_CACHED_RENDITIONS = 16

# A batch that was rung and is still not held after so long: its hint is lost.
RING_QUIET_SECONDS = 60.0

_log = log.get("dispatch")


@dataclass(slots=True)
class Dispatcher:
    """Belongs to one process and one event loop; sends one batch at a time."""

    database: Database
    pace: Pace
    stationery: Stationery
    press: Press
    bell: Bell
    clock: Clock
    lines: LineKeeper
    offload: Offload
    stopping: Callable[[], bool]
    rate: float
    lease_seconds: float
    meter: Meter = field(default_factory=Meter)
    _renditions: dict[int, Rendition] = field(default_factory=dict)

    async def send_batch(self, batch: int) -> bool:
        """Whether the batch was ours to send; a hint about one that is closed, held or paused does nothing.

        One log line a batch.
        """
        line = await self.lines.ready()
        faults.point("before-claim")
        claim = await self.offload.database(lambda: self._claim(batch, line.sender))
        if claim is None:
            return False
        faults.point("after-claim")
        run = await self.offload.database(lambda: self._prepare(claim, line))
        if run is None:
            await self.offload.database(lambda: self._finish(claim))
            return True
        faults.point("after-prepare")
        async with self.lines.accounted():
            await run.run()
        faults.point("before-finish")
        await self.offload.database(lambda: self._finish(claim, run.objection))
        faults.point("after-finish")
        _log.info("batch-sent", batch=batch, mailing=claim.mailing, fence=claim.fence, letters=run.sent)
        return True

    def _claim(self, batch: int, sender: int) -> Claim | None:
        with self.database.begin() as session:
            claim = batches.claim(
                session, batch, sender=sender, lease_seconds=self.lease_seconds, now_ms=stored(self.clock.now())
            )
            faults.point("claim-commit")
        return claim

    def _prepare(self, claim: Claim, line: Line) -> BatchRun | None:
        """What the batch needs besides its readers; None where its chain has no edition, whose readers are skipped."""
        with self.database.begin() as session:
            rendition = self._rendition(session, claim)
            if rendition is None:
                waiting = batches.take_due(session, claim, stored(self.clock.now()))
                gate.skip(session, claim.batch, waiting, SkipReason.NO_EDITION, stored(self.clock.now()))
                batches.give_back(session, claim)
                return None
            domain = publication.load(session).sender.rpartition("@")[2]
            rate = mailings.get(session, claim.mailing).rate
        means = Means(
            self.database,
            self.pace,
            self.stationery,
            self.offload,
            self.clock.now,
            self.stopping,
            self.rate,
            self.lease_seconds,
            self.meter,
        )
        return BatchRun(means, line, claim, rendition, domain, rate)

    def _rendition(self, session: Session, claim: Claim) -> Rendition | None:
        number = claim.rendition
        if number is None:
            # Readers who chose other languages since: their edition is printed from the same content.
            content = editions.load(session, mailings.get(session, claim.mailing).week)
            number = editions.freeze(session, claim.mailing, content, claim.chain, self.press, now=self.clock.now())
            if number is None:
                return None
            batches.set_rendition(session, claim, number)
        if number not in self._renditions:
            row = renditions.get(session, number)
            while len(self._renditions) >= _CACHED_RENDITIONS:
                self._renditions.pop(next(iter(self._renditions)))
            self._renditions[number] = Rendition.from_bytes(row.content, digest=row.digest)
        return self._renditions[number]

    def _finish(self, claim: Claim, objection: str | None = None) -> None:
        now = self.clock.now()
        self.meter.count(BATCHES)
        with self.database.begin() as session:
            self.meter.store(session, now, at_once=True)
            if objection is not None:
                trouble.tell(session, self.bell, claim.mailing, trouble.REFUSED_CONTENT, objection, now=now)
            progress.finish(session, claim.mailing, now=now)
            faults.point("finish-commit")

    def ring_next(self) -> None:
        """Ring for one more batch of the installation, if there is one: work goes on even where hints were lost."""
        if self.stopping():
            return
        now_ms = stored(self.clock.now())
        with self.database.begin() as session:
            for following in batches.to_ring(session, now_ms=now_ms, quiet_seconds=RING_QUIET_SECONDS, limit=1):
                ring_after_commit(session, self.bell, SEND_BATCH, following)
        faults.point("after-ring")
