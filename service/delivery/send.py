"""Sending one batch: line, tokens, gate, wire, record, group by group, with a sign of life at least every lease third.

The exception to "one transaction per task" (ADR 0003): each gate is a transaction of its own, because nothing may be
mailed that was not committed as being attempted.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from service import faults, log
from service.clock import suspended_monotonic
from service.delivery.account import Account, Doubtful
from service.delivery.breaking import Guard
from service.delivery.day import Day
from service.delivery.idleness import Waiting
from service.delivery.letters import locked
from service.delivery.limits import DaySpentError
from service.delivery.line import Line
from service.delivery.means import Means
from service.delivery.meter import LEASES_LOST
from service.delivery.passage import Passage
from service.delivery.patience import AWAY_SECONDS
from service.delivery.tokens import Tokens
from service.domain.delivery import Hindrance
from service.domain.errors import UnavailableError
from service.domain.limits import INSTALLATION, provider_scope, relay_scope
from service.domain.replies import ReplyClass
from service.mail.letter import Letter, Outcome
from service.mail.segments import Rendition
from service.pace.groups import GROUP_LIMIT, group_size, lowest_rate
from service.store import DatabaseAwayError, Session, batches, breakers, gate, mailings, parting
from service.store.batches import Claim
from service.store.breakers import Breaker
from service.store.gate import Gated
from service.store.instants import stored
from service.store.provider_keys import is_hashed, provider_key

# The promise of the gate: who left is not mailed a second later.
GATE_SECONDS = 1.0
_SIGN_OF_LIFE = 0.5
_SIGN_SECONDS = 0.7

_OBJECTIONS = frozenset({ReplyClass.CONTENT, ReplyClass.PROTOCOL})

_log = log.get("send")
_Value = TypeVar("_Value")


class ClaimLostError(Exception):
    """The batch is no longer ours, or its mailing is not sending: nothing more may be gated."""


@dataclass(slots=True)
class BatchRun:
    """One claimed batch on its way through the lines of this process; several may run beside each other."""

    means: Means
    lines: tuple[Line, ...]
    claim: Claim
    rendition: Rendition
    sender_domain: str
    # Called each time all that is due has been handed over, and only replies are waited for.
    handed_over: Callable[[], None]
    mailing_rate: float | None = None
    sent: int = 0
    # Whether that is so: another batch may begin beside it.
    ending: bool = False
    waiting: Waiting = field(default_factory=Waiting)
    # What a relay found wrong with the mail itself: an operator must hear of it, the reader cannot help it.
    objection: str | None = None
    _account: Account = field(init=False)
    _guard: Guard = field(init=False)
    _tokens: Tokens = field(init=False)
    _day: Day = field(init=False)
    _at_first: list[int] | None = None  # what was due when it was prepared
    _limited: frozenset[str] = frozenset()  # providers that had a limit when it was last asked what is due
    _returned: int = 0
    _out: int = 0
    _all_in: asyncio.Event = field(default_factory=asyncio.Event)
    # Letters that were counted for a daily cap and whose outcome is not known yet, with the scopes and the day.
    _counted: dict[int, tuple[tuple[str, ...], dt.date]] = field(default_factory=dict)
    # In a mixed batch: letters whose provider is busy, by delivery. In one of a single provider: what it bears at once.
    _busy: dict[int, str] = field(default_factory=dict)
    _most: int = GROUP_LIMIT
    _hindered: bool = False
    _progress: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Open the account and set the guard."""
        means, wires = self.means, [line.wire for line in self.lines]
        self._account = Account(
            means.database,
            means.offload,
            means.limits,
            means.meter,
            means.now,
            means.stopping,
            self.claim,
            means.returned,
        )
        self._guard = Guard(means.watch, means.bell, self._account, self.claim.mailing, wires, lambda: self.sent)
        pace = (means.pace, means.offload, means.limits, means.routes, means.stopping)
        self._tokens = Tokens(*pace, self.lines, self.claim, self._patiently, self.waiting)
        self._day = Day(means.routes, self.lines, self.claim)
        self._all_in.set()

    def prepare(self, session: Session) -> None:
        """Learn what is due with a transaction that is made anyway, before it runs."""
        if self.means.limits.stale:
            self.means.limits.read(session, self.means.now())
        self._at_first = self._take_due(session)

    async def run(self) -> None:
        """Send what is due of the batch, then give it back; returns early when the claim is lost or work must stop.

        Whatever happens, every letter that was written has its outcome recorded, or in the journal.
        """
        try:
            while ids := await self._due():
                self.ending = False
                before = self._returned
                if not await self._send(ids):
                    continue
                came_back = self._returned - before
                if not came_back:
                    break  # what is left is due another time
                if came_back >= len(ids):
                    # Nothing could be handed over: whatever is the matter, it is not mended by haste.
                    with self.waiting.counted():
                        await self._patiently(asyncio.sleep(AWAY_SECONDS))
        except ClaimLostError:
            self.means.meter.count(LEASES_LOST)
            _log.info("claim-lost", batch=self.claim.batch, fence=self.claim.fence)
        except DaySpentError as spent:
            self._day.end(spent)
        except DatabaseAwayError:
            self._stop_lines()  # nobody knows of its last gate: the lines are in doubt, and the journal decides
            raise
        except UnavailableError:
            if not self.means.stopping():
                raise
            self._stop_lines()
        finally:
            await self._finish()

    async def _due(self) -> list[int]:
        """What is to be sent now; once only letters of busy providers are left, these get batches of their own."""
        if self.means.stopping():
            return []
        ids, self._at_first = self._at_first, None
        if ids is None:
            ids = await self._account.transaction(self._take_due)
        if self.claim.provider:
            return ids
        left = [one for one in ids if one not in self._busy]
        if ids and not left:
            await self._account.transaction(self._part_off)
        return left

    def _take_due(self, session: Session) -> list[int]:
        ids = batches.take_due(session, self.claim, stored(self.means.now()))
        self._limited = limited = self.means.limits.limited_providers()
        if self.claim.provider or not limited:
            return ids
        # A limit holds for each letter, so none may go out among those of others.
        found = parting.of_providers(session, self.claim, limited)
        if found:
            parting.part_off(session, self.claim, found)
        gone = {one for parted in found.values() for one in parted}
        return [one for one in ids if one not in gone]

    def _part_off(self, session: Session) -> None:
        found: dict[str, list[int]] = {}
        for delivery, provider in self._busy.items():
            found.setdefault(provider_key(session.sealer, provider), []).append(delivery)
        parting.part_off(session, self.claim, found)

    async def _send(self, ids: list[int]) -> bool:
        """Hand them over and wait for all outcomes; False, at once, where a provider has got a limit meanwhile."""
        position = 0
        while position < len(ids):
            try:
                line, room = await self._way()
            except DaySpentError:
                if not (self._out or self._account.gives_back):
                    raise
                # What comes back unsent may still go today.
                await self._all_back()
                continue
            if not (self.claim.provider or self.means.limits.limited_providers() <= self._limited):
                return False
            group = ids[position : position + room]
            await self._guard.tend()
            # The second is counted from before the question, not from the answer.
            good_until = suspended_monotonic() + GATE_SECONDS
            asked, gated = await self._gate(line, group)
            faults.point("after-gate")
            position += asked
            self.mailing_rate = gated.rate
            letters = self.means.stationery.letters(
                gated.recipients,
                self.rendition,
                sender_domain=self.sender_domain,
                good_until=good_until,
                now=self.means.now(),
            )
            letters, held_back = await self._guard.admit(letters)
            self._submit(line, letters)
            held_back += locked(gated.locked, self.means.now())
            self._out += len(held_back)
            for outcome in held_back:
                self._on_outcome(outcome)
        self.ending = True
        self.handed_over()
        with self.waiting.counted():
            await self._patiently(self._all_in.wait())
        return True

    async def _all_back(self) -> None:
        """Wait for the outcomes of all letters under way, and count the day anew."""
        with self.waiting.counted():
            await self._patiently(self._all_in.wait())
        await self._account.transaction(lambda session: self.means.limits.read(session, self.means.now()))

    def _submit(self, line: Line, letters: list[Letter]) -> None:
        if not letters:
            return
        self._most = min(GROUP_LIMIT, self._most + 1)
        if is_hashed(self.claim.provider):
            self.means.routes.learn(self.lines, self.claim.provider, letters[0].provider)
        self._out += len(letters)
        self._all_in.clear()
        self.means.routes.give(self.lines, line, len(letters))
        line.wire.submit(letters, self._on_outcome, regate=self._regate)

    async def _way(self) -> tuple[Line, int]:
        """A line with room, and for how many letters, whose tokens are taken."""
        while True:
            if self._hindered:
                await self._let_pass()
            line, room = await self._room()
            faults.point("before-tokens")
            began = suspended_monotonic()
            taken = await self._tokens.take(line, room, lambda: self.mailing_rate)
            faults.point("after-tokens")
            if taken and suspended_monotonic() - began > GATE_SECONDS:
                # Sessions may have ended meanwhile, and no gate is to be spent on connecting.
                room = min(room, line.wire.room_now(room))
            if taken and room:
                return line, room

    async def _room(self) -> tuple[Line, int]:
        wanted = (self.lines, self._group_size, self.claim.provider)
        # Each turn of the loop is a moment in which letters are written: to await what is there would starve the wire.
        found = self.means.routes.room_now(*wanted)
        if found is None:
            found = await self._patiently(self.means.routes.room(*wanted, waiting=self.waiting.counted))
        return found

    def _group_size(self, line: Line) -> int:
        return min(self._most, group_size(lowest_rate(*self._tokens.rates(line, self.mailing_rate).values())))

    async def _gate(self, line: Line, group: list[int]) -> tuple[int, Gated]:
        """Pass the gate, in one transaction with the outcomes known by now; how many were asked for, and who passed.

        Raises ClaimLostError. Where a daily cap leaves no letter nobody passes, and the limits know it from then on.
        """
        if self.means.stopping():
            raise ClaimLostError
        faults.point("before-gate")
        now = self.means.now()
        scopes = (INSTALLATION, relay_scope(line.relay), provider_scope(self.claim.provider))
        caps = self.means.limits.caps(scopes, now)
        passage = Passage(self.claim, group, line.sender, caps, self.means.lease_seconds, now)
        began = suspended_monotonic()
        gated = await self._account.transaction(
            passage.gate,
            first=passage.look,
            alone=None if caps else passage.gate_alone,
            doubtful=Doubtful(line.sender, group),
        )
        if gated is None:
            raise ClaimLostError
        if gated.locked:
            _log.warning("key-missing", batch=self.claim.batch, letters=len(gated.locked), error=Hindrance.KEY)
        self.means.meter.gate(suspended_monotonic() - began, len(gated.recipients))
        for scope, left in passage.left.items():
            if not left:
                self.means.limits.note_spent(scope, now)
        if caps:
            self._counted.update((recipient.delivery, (tuple(caps), passage.day)) for recipient in gated.recipients)
        return len(passage.allowed), gated

    async def _regate(self, letter: Letter) -> float | None:
        """The new end of a gate that ran out before the relay wanted the body; None where it is shut now."""
        good_until = suspended_monotonic() + GATE_SECONDS
        faults.point("gate-again")
        still = await self._account.transaction(
            lambda session: gate.still_open(
                session, self.claim, letter.delivery_id, letter.attempt, now_ms=stored(self.means.now())
            )
        )
        return good_until if still else None

    def _on_outcome(self, outcome: Outcome) -> None:
        # Nearly all are accepted: those are counted when the next that is not comes, or none.
        if outcome.reply_class is not ReplyClass.ACCEPTED or self.means.watch.probing:
            outcome = self._guard.heard(outcome)
            if outcome.reply_class in _OBJECTIONS:
                self.objection = f"{outcome.relay}: {outcome.code} {outcome.enhanced or ''} {outcome.text}"
        self._account.add(outcome)
        counted = self._counted.pop(outcome.delivery_id, None) if self._counted else None
        if outcome.reply_class is ReplyClass.NOT_SENT:
            self._returned += 1
            if outcome.busy:
                self._note_busy(outcome)
            if counted is not None:
                self._account.unused(*counted)
        else:
            self.sent += 1
            self._progress.set()
        self._out -= 1
        if not self._out:
            self._all_in.set()

    def _note_busy(self, outcome: Outcome) -> None:
        """Its provider has all the sessions that it may have: others go first, or fewer are gated at once."""
        if self.claim.provider:
            self._most = max(1, self._most // 2)
            self._hindered = True
        else:
            self._busy[outcome.delivery_id] = outcome.provider

    async def _let_pass(self) -> None:
        """After letters came back because their provider is busy: wait until one of ours is through, or a second."""
        self._hindered = False
        self._progress.clear()
        with self.waiting.counted(), suppress(TimeoutError):
            await self._patiently(asyncio.wait_for(self._progress.wait(), AWAY_SECONDS))

    async def _patiently(self, wanted: Awaitable[_Value]) -> _Value:
        """Await something that may take long, recording outcomes and renewing the lease meanwhile.

        Raises ClaimLostError when the lease is lost or the mailing stops; stops the wires when this worker must stop.
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
            self._stop_lines()
        await self._guard.tend()
        due = suspended_monotonic() - self._account.last_sign > min(_SIGN_SECONDS, self.means.lease_seconds / 3)
        if not (self._account.open or due):
            return
        if not await self._account.transaction(self._renew) and not self._past_dot():
            raise ClaimLostError

    def _renew(self, session: Session) -> bool:
        held = batches.renew(session, self.claim, self.means.lease_seconds)
        self.mailing_rate = mailings.rate(session, self.claim.mailing)
        return held

    def _past_dot(self) -> bool:
        return any(line.wire.past_dot for line in self.lines)

    def _stop_lines(self) -> None:
        for line in self.lines:
            line.wire.stop()

    async def _finish(self) -> None:
        """Wait for the replies that are owed, record them, and give the batch back."""
        while not self._all_in.is_set():
            with self.waiting.counted(), suppress(TimeoutError):
                await asyncio.wait_for(self._all_in.wait(), _SIGN_OF_LIFE)
            with suppress(ClaimLostError):
                await self._sign_of_life()
        await self._guard.end()
        faults.point("before-give-back")
        known = await self._account.transaction(self._give_back, first=self._day.look_again)
        faults.point("after-give-back")
        await self._guard.over(known)

    def _give_back(self, session: Session) -> dict[str, Breaker]:
        batches.give_back(session, self.claim, not_before=self._day.not_before)
        return breakers.every(session)
