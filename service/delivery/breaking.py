"""Breaking: what follows from a trip, for the mailing, the provider or the relay; done by the worker that saw it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from service import log
from service.clock import suspended_monotonic
from service.delivery import control, trouble
from service.delivery.account import Account
from service.delivery.watch import PolicyTrip, ProbeOver, ProviderTrip, Trip, Watch, unsent
from service.domain.errors import ConflictError, NotFoundError
from service.domain.limits import relay_scope
from service.domain.replies import ReplyClass
from service.mail.letter import Letter, Outcome
from service.mail.wire import Wire
from service.queue import Bell
from service.store import DatabaseAwayError, Session, breakers, mailings
from service.store.breakers import AUTH, OUTAGE, RELAY, Breaker

ACTOR = "breaker"
# What a worker tells of a relay is believed for so long, unless it tells it again, as it does so often.
_BELIEVED = dt.timedelta(seconds=60)
_TELL_EVERY = 15.0
_PROBE_TIME = dt.timedelta(minutes=2)
# So long may every relay be in trouble before the operators are told.
RELAYS_DOWN = dt.timedelta(seconds=60)
_HAIR = 0.005  # seconds
# Other workers may have begun to be refused a little earlier, and may learn of a trip a little later.
_SLACK = dt.timedelta(minutes=10)

_log = log.get("breakers")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class _State:
    """One relay as this worker sees it."""

    name: str
    trouble: str | None
    kind: str
    connected: bool


@dataclass(slots=True, eq=False, weakref_slot=True)
class Guard:
    """Stands between one run of one batch and the breakers, in its event loop.

    It asks the database in transactions of its own, at most once a second where nothing happens; while the database
    is away, it knows what it knew, and trips wait.
    """

    watch: Watch
    bell: Bell
    account: Account
    mailing: int
    wires: Sequence[Wire]
    # How many replies to letters of this run have been read, but for the one that is being judged.
    replies: Callable[[], int]
    _counted: int = 0

    def uncounted(self) -> int:
        """How many letters have been accepted since this was asked the last time, but for those that were judged."""
        before, self._counted = self._counted, self.replies()
        return self._counted - before

    def heard(self, outcome: Outcome) -> Outcome:
        """Judge a reply; the outcome to record.

        At a trip by policy the letters that wait for a connection are given back at once.
        """
        if outcome.reply_class is ReplyClass.NOT_SENT:
            self.watch.returned(outcome)
            return outcome
        before = len(self.watch.due)
        recorded = self.watch.heard(outcome, self)
        self._counted += 1
        if any(isinstance(trip, PolicyTrip) for trip in list(self.watch.due)[before:]):
            for wire in self.wires:
                wire.call_off("the breaker has tripped")
        return recorded

    async def admit(self, letters: list[Letter]) -> tuple[list[Letter], list[Outcome]]:
        """The gated letters that may be written, and the outcomes of those whose provider is left alone."""
        self.watch.begin(self)
        if self.watch.must_pause(self.mailing):
            return [], [unsent(letter, "the breaker has tripped") for letter in letters]
        held: list[Outcome] = []
        if self.watch.holding:
            for scope in self.watch.to_probe(letters, self.account.now()):
                until = self.account.now() + _PROBE_TIME
                if await self._transaction(partial(self._take_probe, scope, until)):
                    self.watch.begin_probe(scope, self, until)
            letters, held = self.watch.admit(letters, self, self.account.now())
        self.watch.wrote(letters, self.account.now())
        return letters, held

    async def tend(self) -> None:
        """Have due trips take effect, tell of relays in trouble, and learn whom to leave alone."""
        watch, tripped = self.watch, False
        watch.repeat()
        if watch.due and self.account.open:
            # What a trip takes back must have been recorded before.
            await self.account.transaction(lambda _session: None)
        while watch.due:
            trip = watch.due[0]
            try:
                applied = await self._transaction(partial(self._apply, trip))
            except Exception:
                # Told as any error; but were it still due, it would end every run from now on.
                watch.over(trip)
                raise
            if not applied:
                return
            # Until it has taken effect it is due, so that no run goes on.
            if watch.over(trip):
                watch.applied(trip)
            tripped = True
        if tripped or watch.stale:
            known = await self._transaction(breakers.every, writes=False)
            if known is not None:
                await self.heed(known)

    async def heed(self, known: dict[str, Breaker]) -> None:
        """Learn who is left alone; write only where a relay's row is not what this worker sees."""
        states = [_State(wire.relay.name, wire.trouble, wire.trouble_kind, wire.connected) for wire in self.wires]
        if any(state.trouble or (state.connected and relay_scope(state.name) in known) for state in states):
            known = await self._transaction(partial(self._tell_all, states, known)) or known
        self.watch.learn(known, self.account.now())

    async def end(self) -> None:
        """No more replies come: have what they have tripped take effect, while the batch is still ours."""
        self.watch.run_over(self)
        self.watch.repeat(at_once=True)
        await self.tend()

    async def over(self, known: dict[str, Breaker]) -> None:
        """The batch was given back, and `known` is what was known then: nothing that it has seen is left unsaid.

        The database may have been away before, and no other run of this process may come.
        """
        await self.heed(known)
        if self.watch.due:
            await self.tend()
        # What others recorded before they knew of a trip is taken back, too.
        while (seconds := self.watch.repeats_in) is not None:
            # A loop's timer may end a moment too early, and then there would be nothing to repeat.
            await asyncio.sleep(seconds + _HAIR)
            await self.tend()

    async def _transaction(self, work: Callable[[Session], _Value], *, writes: bool = True) -> _Value | None:
        """What `work` returns; None while the database is away."""

        def run() -> _Value:
            with self.account.database.begin() if writes else self.account.database.read() as session:
                return work(session)

        try:
            return await self.account.offload.database(run)
        except DatabaseAwayError as error:
            _log.warning("database-away", mailing=self.mailing, error=str(error))
            return None

    def _apply(self, trip: Trip, session: Session) -> bool:
        apply(session, self.bell, trip, now=self.account.now())
        return True

    def _take_probe(self, scope: str, until: dt.datetime, session: Session) -> bool:
        return take_probe(session, scope, now=self.account.now(), until=until)

    def _tell_all(self, states: Sequence[_State], known: dict[str, Breaker], session: Session) -> dict[str, Breaker]:
        now = self.account.now()
        for state in states:
            self._tell(session, state, known, now)
        down = [known.get(relay_scope(state.name)) for state in states if state.trouble]
        told = [one for one in down if one is not None]
        if told and len(told) == len(states):
            relays_down(session, self.bell, self.mailing, told, now=now)
        return known

    def _tell(self, session: Session, state: _State, known: dict[str, Breaker], now: dt.datetime) -> None:
        """Keep the row of one relay, where this worker knows better; `known` is changed with it."""
        scope, told = relay_scope(state.name), self.watch.told
        if state.trouble is None:
            told.pop(scope, None)
            # Only who is let in may say that others are wrong.
            if scope in known and state.connected and breakers.clear(session, scope):
                del known[scope]
            return
        text, at = told.get(scope, ("", 0.0))
        if text == state.trouble and suspended_monotonic() - at < _TELL_EVERY and scope in known:
            return
        known[scope] = breakers.note_trouble(session, scope, state.kind, state.trouble, now=now, until=now + _BELIEVED)
        told[scope] = (state.trouble, suspended_monotonic())
        if text != state.trouble:
            _log.warning("relay-trouble", relay=state.name, kind=state.kind, trouble=state.trouble)


# What follows, each in a transaction of its own: nothing may be locked before the mailing is.


def apply(session: Session, bell: Bell, trip: Trip, *, now: dt.datetime) -> None:
    """Pause the mailing, leave the provider alone, or let it go on; the operators are told. Safe to repeat."""
    if isinstance(trip, PolicyTrip):
        _pause(session, bell, trip, now)
    elif isinstance(trip, ProviderTrip):
        _hold(session, bell, trip, now)
    else:
        _after_probe(session, bell, trip, now)


def _pause(session: Session, bell: Bell, trip: PolicyTrip, now: dt.datetime) -> None:
    try:
        control.pause(session, trip.mailing, actor=ACTOR, now=now, reason=trip.reason)
    except (ConflictError, NotFoundError):
        return  # another worker, or an operator, came first; or a database that knows nothing of it as yet
    # Once for each pause: what trips again after a resume is told again.
    kind = f"{trouble.POLICY}:{int(now.timestamp())}"
    trouble.tell(session, bell, trip.mailing, kind, trip.reason, now=now)
    _log.warning("breaker-tripped", mailing=trip.mailing, kind=trouble.POLICY)


def _hold(session: Session, bell: Bell, trip: ProviderTrip, now: dt.datetime) -> None:
    if trip.again:
        known = breakers.every(session).get(trip.scope)
        due = max(known.until, now) if known is not None and known.until is not None else now
        breakers.disbelieve(session, trip.scope, since=trip.since - _SLACK, due=due, now=now)
        return
    held, first = breakers.hold_provider(session, trip.scope, trip.kind, trip.reason, now=now)
    due = held.until or now
    undone = breakers.disbelieve(session, trip.scope, since=trip.since - _SLACK, due=due, now=now)
    if not first:
        return
    breakers.hold_batches(session, held, now=now)
    problem = f"{named(trip.scope)} is left alone until {due:%Y-%m-%d %H:%M} UTC, and then tried again: {trip.reason}"
    kind = f"{trip.scope}:{int(held.since.timestamp())}"
    with suppress(NotFoundError):  # a database that was set back may not have that mailing
        trouble.tell(session, bell, trip.mailing, kind, problem, now=now)
    _log.warning("provider-held", mailing=trip.mailing, kind=trip.kind, trips=held.trips, disbelieved=undone)


def _after_probe(session: Session, bell: Bell, trip: ProbeOver, now: dt.datetime) -> None:
    if trip.passed:
        breakers.prove(session, trip.scope, now=now)
        _log.info("probe-passed", mailing=trip.mailing)
        return
    _hold(session, bell, ProviderTrip(trip.mailing, trip.scope, OUTAGE, trip.reason, now), now)


def take_probe(session: Session, scope: str, *, now: dt.datetime, until: dt.datetime) -> bool:
    """Whether this worker is to try the provider until then; what others believed meanwhile is taken back first."""
    known = breakers.every(session).get(scope)
    if known is None or not breakers.take_probe(session, scope, now=now, until=until):
        return False
    breakers.disbelieve(session, scope, since=known.since - _SLACK, due=now, now=now)
    return True


def relays_down(session: Session, bell: Bell, mailing: int, down: Sequence[Breaker], *, now: dt.datetime) -> None:
    """Tell the operators, once for each trouble, that every relay has been in trouble for a minute."""
    since = max(one.since for one in down)
    if now - since < RELAYS_DOWN:
        return
    words = "; ".join(one.reason for one in down)
    problem = f"no relay takes mail since {since:%Y-%m-%d %H:%M} UTC; it goes on by itself when one does. {words}"
    trouble.tell_of_all(session, bell, mailing, f"{trouble.RELAYS}:{int(since.timestamp())}", problem, now=now)


def logins_refused(session: Session, bell: Bell, relays: Collection[str], *, now: dt.datetime) -> None:
    """Tell the operators, once a day for each, of these relays that have refused our login for a minute.

    Other trouble of a relay passes by itself while another takes the mail; a password does not. Where every relay is in
    trouble, `relays_down` tells. A sweep asks, so that it is told though the mailing is over within that minute.
    """
    known = breakers.every(session)
    down = [known[scope] for scope in map(relay_scope, relays) if scope in known]
    if len(down) == len(relays):
        return
    for one in down:
        if one.kind != AUTH or now - one.since < RELAYS_DOWN:
            continue
        mailing = mailings.last_begun(session)
        if mailing is None:
            return
        problem = (
            f"{named(one.scope)} has taken no mail since {one.since:%Y-%m-%d %H:%M} UTC, for want of a login that it "
            f"accepts; others take it meanwhile, and it is tried again by itself. {one.reason}"
        )
        # By the day: workers with sessions of before, or breaks between batches, have the trouble begin anew and anew.
        trouble.tell_of_all(session, bell, mailing.id, f"{one.scope}:{AUTH}:{now:%Y-%m-%d}", problem, now=now)


def named(scope: str) -> str:
    """A scope in words for an operator; of a domain only its keyed hash is known."""
    name = scope.partition(":")[2]
    if scope.startswith(RELAY):
        return f"the relay {name}"
    return f"a domain known as {name}" if name.startswith("d-") else f"the provider {name}"
