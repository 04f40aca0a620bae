"""Sending one batch: tokens, gate, wire, record, group by group, with a sign of life at least every lease third.

The exception to "one transaction per task" (ADR 0003): each gate is a transaction of its own, because nothing may be
mailed that was not committed as being attempted.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from service import faults, log
from service.clock import suspended_monotonic
from service.delivery import recording
from service.delivery.letters import Stationery
from service.delivery.line import Line
from service.delivery.meter import LEASES_LOST, Meter
from service.delivery.offload import Offload
from service.domain.errors import UnavailableError
from service.domain.replies import ReplyClass
from service.mail.letter import Letter, Outcome
from service.mail.segments import Rendition
from service.pace.bucket import Pace, PaceAwayError
from service.pace.groups import group_size, lowest_rate
from service.store import Database, DatabaseAwayError, Session, batches, gate, mailings, outcomes
from service.store.batches import Claim
from service.store.gate import Gated
from service.store.instants import stored

# The promise of the gate: who left is not mailed a second later.
GATE_SECONDS = 1.0
INSTALLATION_BUCKET = "installation"
_SIGN_OF_LIFE = 0.5
_AWAY_SECONDS = 1.0
# A supervisor kills who does not end within some ten seconds.
_STOP_SECONDS = 3.0

_OBJECTIONS = frozenset({ReplyClass.CONTENT, ReplyClass.PROTOCOL})

_log = log.get("send")
_Value = TypeVar("_Value")


class ClaimLostError(Exception):
    """The batch is no longer ours, or its mailing is not sending: nothing more may be gated."""


@dataclass(frozen=True, slots=True)
class Means:
    """What one worker process sends with."""

    database: Database
    pace: Pace
    stationery: Stationery
    offload: Offload
    now: Callable[[], dt.datetime]
    stopping: Callable[[], bool]
    rate: float
    lease_seconds: float
    meter: Meter


@dataclass(slots=True)
class BatchRun:
    """One claimed batch on its way through one line."""

    means: Means
    line: Line
    claim: Claim
    rendition: Rendition
    sender_domain: str
    mailing_rate: float | None = None
    sent: int = 0
    # What a relay found wrong with the mail itself: an operator must hear of it, the reader cannot help it.
    objection: str | None = None
    _spoken: list[Outcome] = field(default_factory=list)
    _returned: int = 0
    _last_sign: float = 0.0

    async def run(self) -> None:
        """Send what is due of the batch, then give it back; returns early when the claim is lost or work must stop.

        Whatever happens, every letter that was written has its outcome recorded, or in the journal.
        """
        self._last_sign = suspended_monotonic()
        try:
            while ids := await self._due():
                before = self._returned
                await self._send(ids)
                if self._returned - before >= len(ids):
                    # Nothing could be handed over: whatever is the matter, it is not mended by haste.
                    await self._patiently(asyncio.sleep(_AWAY_SECONDS))
        except ClaimLostError:
            self.means.meter.count(LEASES_LOST)
            _log.info("claim-lost", batch=self.claim.batch, fence=self.claim.fence)
        except UnavailableError:
            if not self.means.stopping():
                raise
            self.line.wire.stop()
        finally:
            await self._finish()

    async def _due(self) -> list[int]:
        if self.means.stopping():
            return []
        return await self._database(lambda session: batches.take_due(session, self.claim, stored(self.means.now())))

    async def _send(self, ids: list[int]) -> None:
        position = 0
        while position < len(ids):
            room = await self._patiently(self.line.wire.room(group_size(self._rate())))
            faults.point("before-tokens")
            if await self._tokens(room):
                # Sessions may have ended meanwhile, and no gate is to be spent on connecting.
                room = min(room, await self._patiently(self.line.wire.room(room)))
            faults.point("after-tokens")
            group = ids[position : position + room]
            position += len(group)
            # The second is counted from before the question, not from the answer.
            good_until = suspended_monotonic() + GATE_SECONDS
            gated = await self._gate(group)
            faults.point("after-gate")
            self.mailing_rate = gated.rate
            letters = self.means.stationery.letters(
                gated.recipients,
                self.rendition,
                sender_domain=self.sender_domain,
                good_until=good_until,
                now=self.means.now(),
            )
            self.line.wire.submit(letters, self._on_outcome, regate=self._regate)
        await self._drain()

    def _rate(self) -> float:
        return lowest_rate(self.means.rate, self.mailing_rate)

    async def _tokens(self, count: int) -> bool:
        """Take the rate's tokens and wait until they are good; while Valkey is away, wait for it. Whether it took long.

        An operator may change the rate meanwhile: then tokens are taken anew.
        """
        long = False
        while not self.means.stopping():
            rate = self.mailing_rate
            try:
                wait = await self.means.offload.pace(lambda: self._reserve(count))
            except PaceAwayError as error:
                _log.warning("pace-away", batch=self.claim.batch, error=str(error))
                await self._patiently(asyncio.sleep(_AWAY_SECONDS))
                long = True
                continue
            long = long or wait > GATE_SECONDS
            while wait > 0 and self.mailing_rate == rate and not self.means.stopping():
                slept = min(wait, _AWAY_SECONDS)
                await self._patiently(asyncio.sleep(slept))
                wait -= slept
            if self.mailing_rate == rate:
                break
        return long

    def _reserve(self, count: int) -> float:
        wait = 0.0
        if self.means.rate:
            wait = self.means.pace.reserve(INSTALLATION_BUCKET, self.means.rate, count)
        if self.mailing_rate:
            wait = max(wait, self.means.pace.reserve(f"mailing-{self.claim.mailing}", self.mailing_rate, count))
        return wait

    async def _gate(self, group: list[int]) -> Gated:
        """Pass the gate, in one transaction with the outcomes known by now. Raises ClaimLostError."""
        if self.means.stopping():
            raise ClaimLostError
        faults.point("before-gate")
        asked = suspended_monotonic()
        gated = await self._database(lambda session: self._pass_gate(session, group), doubtful=group)
        if gated is None:
            raise ClaimLostError
        self.means.meter.gate(suspended_monotonic() - asked, len(gated.recipients))
        return gated

    def _pass_gate(self, session: Session, group: list[int]) -> Gated | None:
        gated = gate.pass_gate(
            session,
            self.claim,
            group,
            sender=self.line.sender,
            lease_seconds=self.means.lease_seconds,
            now_ms=stored(self.means.now()),
        )
        faults.point("gate-commit")
        return gated

    async def _regate(self, letter: Letter) -> float | None:
        """The new end of a gate that ran out before the relay wanted the body; None where it is shut now."""
        good_until = suspended_monotonic() + GATE_SECONDS
        faults.point("gate-again")
        still = await self._database(
            lambda session: gate.still_open(session, self.claim, letter.delivery_id, letter.attempt)
        )
        return good_until if still else None

    def _on_outcome(self, outcome: Outcome) -> None:
        self._spoken.append(outcome)
        if outcome.reply_class in _OBJECTIONS:
            self.objection = f"{outcome.relay}: {outcome.code} {outcome.enhanced or ''} {outcome.text}"
        if outcome.reply_class is ReplyClass.NOT_SENT:
            self._returned += 1
        else:
            self.sent += 1

    async def _drain(self) -> None:
        await self._patiently(self.line.wire.drain())

    async def _patiently(self, wanted: Awaitable[_Value]) -> _Value:
        """Await something that may take long, recording outcomes and renewing the lease meanwhile.

        Raises ClaimLostError when the lease is lost or the mailing stops; stops the wire when this worker must stop.
        """
        task = asyncio.ensure_future(wanted)
        try:
            while True:
                done, _ = await asyncio.wait((task,), timeout=_SIGN_OF_LIFE)
                if done:
                    return task.result()
                await self._sign_of_life()
        finally:
            task.cancel()

    async def _sign_of_life(self) -> None:
        if self.means.stopping():
            self.line.wire.stop()
        due = suspended_monotonic() - self._last_sign > min(1.0, self.means.lease_seconds / 3)
        if not (self._spoken or due):
            return
        if not await self._database(self._renew) and not self.line.wire.past_dot:
            raise ClaimLostError

    def _renew(self, session: Session) -> bool:
        held = batches.renew(session, self.claim, self.means.lease_seconds)
        self.mailing_rate = mailings.rate(session, self.claim.mailing)
        return held

    async def _finish(self) -> None:
        """Wait for the replies that are owed, record them, and give the batch back."""
        owed = asyncio.ensure_future(self.line.wire.drain())
        while not owed.done():
            await asyncio.wait((owed,), timeout=_SIGN_OF_LIFE)
            await self._sign_of_life_or_nothing()
        faults.point("before-give-back")
        await self._database(lambda session: batches.give_back(session, self.claim))
        faults.point("after-give-back")

    async def _sign_of_life_or_nothing(self) -> None:
        try:
            await self._sign_of_life()
        except ClaimLostError:
            return

    async def _database(self, work: Callable[[Session], _Value], *, doubtful: Sequence[int] = ()) -> _Value:
        """Run `work` in a transaction beside the loop, with the outcomes known by now recorded in the same.

        While the database is away it tries again; a worker that must stop does so for seconds only, and leaves the rest
        to its journal. `doubtful` names deliveries that `work` marks as being attempted: a commit of which nobody
        knows whether it happened is taken back before the next try.
        """
        give_up = _Patience(self.means.stopping)
        while True:
            spoken, self._spoken = self._spoken, []
            try:
                value = await self.means.offload.database(partial(self._transaction, spoken, work))
            except DatabaseAwayError as error:
                self._spoken = spoken + self._spoken
                _log.warning("database-away", batch=self.claim.batch, error=str(error))
                if give_up.now():
                    raise
                await asyncio.sleep(_AWAY_SECONDS)
                await self._take_back(doubtful, give_up)
                continue
            except BaseException:
                self._spoken = spoken + self._spoken
                raise
            self._last_sign = suspended_monotonic()
            self.means.meter.outcomes(self.claim.mailing, self.claim.provider, spoken)
            return value

    def _transaction(self, spoken: list[Outcome], work: Callable[[Session], _Value]) -> _Value:
        with self.means.database.begin() as session:
            if spoken:
                faults.point("before-record")
                changed = recording.record(session, spoken, now=self.means.now())
                foreign = changed - {self.claim.batch}
                batches.settle(session, sorted(foreign))
            value = work(session)
            self.means.meter.store(session, self.means.now())
            faults.point("record-commit")
        faults.point("after-record")
        return value

    async def _take_back(self, doubtful: Sequence[int], give_up: _Patience) -> None:
        """Nothing of this group was written: whatever the lost commit did to it is undone."""
        if not doubtful:
            return

        def undo() -> None:
            with self.means.database.begin() as session:
                now_ms = stored(self.means.now())
                outcomes.take_back(session, self.claim.batch, doubtful, sender=self.line.sender, now_ms=now_ms)

        while True:
            try:
                await self.means.offload.database(undo)
            except DatabaseAwayError:
                if give_up.now():
                    raise
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            return


class _Patience:
    """How long a database that is away is waited for: as long as it takes, but for a worker that must stop."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._stop_at: float | None = None

    def now(self) -> bool:
        """Whether to give up."""
        if not self._stopping():
            return False
        self._stop_at = self._stop_at or suspended_monotonic() + _STOP_SECONDS
        return suspended_monotonic() >= self._stop_at
