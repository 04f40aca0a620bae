"""The watch of one worker process: what it has seen refused, and whom all workers know to be left alone."""

from __future__ import annotations

import datetime as dt
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from service.clock import suspended_monotonic
from service.domain.breakers import PolicyCounter, Probe, ProviderCounter
from service.domain.providers import KNOWN
from service.domain.replies import Phase, Reply, ReplyClass
from service.mail.letter import Letter, Outcome
from service.store import Sealer
from service.store.breakers import HARD, OUTAGE, POLICY, PROVIDER, Breaker, sealed_scope

_FRESH = 1.0  # seconds after which it must be read again who is left alone
_SOON = dt.timedelta(seconds=60)  # for which letters wait whose provider somebody must try first
_MAILINGS = 8
_SCOPES = 10_000
_AGAIN = 3.0  # seconds after which every worker knows of a trip and has recorded what it heard before


@dataclass(frozen=True, slots=True)
class PolicyTrip:
    """A mailing that must pause."""

    mailing: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProviderTrip:
    """A provider that must be left alone; `since` is when the letters began that were counted."""

    mailing: int
    scope: str
    kind: str
    reason: str
    since: dt.datetime
    again: bool = False


@dataclass(frozen=True, slots=True)
class ProbeOver:
    """A provider of which a few letters have shown how it is."""

    mailing: int
    scope: str
    passed: bool
    reason: str


Trip = PolicyTrip | ProviderTrip | ProbeOver


class Watch:
    """Belongs to one event loop. Whoever finds trips that are `due` has them applied (see `delivery.breaking`)."""

    def __init__(self, sealer: Sealer) -> None:
        self.due: deque[Trip] = deque()
        self.probing = False  # whether acceptances must be looked at one by one
        self.holding = False  # whether letters must be
        self._known: Mapping[str, Breaker] = {}
        self._open: Mapping[str, Breaker] = {}
        self.told: dict[str, tuple[str, float]] = {}  # of relays in trouble: what this process told last, and when
        self._known_at = -_FRESH
        self._sealer = sealer
        self._policy: dict[int, PolicyCounter] = {}
        self._providers = ProviderCounter()
        self._scopes: dict[str, str] = {}
        self._probes: dict[str, Probe] = {}
        self._again: dict[ProviderTrip, float] = {}
        self._tripped: set[str] = set()  # here, and not known to all yet

    # What all workers know

    @property
    def stale(self) -> bool:
        """Whether it is time to read again who is left alone."""
        return suspended_monotonic() - self._known_at > _FRESH

    def learn(self, known: Mapping[str, Breaker], now: dt.datetime) -> None:
        """Be told of all breakers, by scope."""
        self._known = known
        self._open = {s: one for s, one in known.items() if s.startswith(PROVIDER) and not one.closed(now)}
        self._tripped.difference_update(self._open)
        self.holding = bool(self._open)
        self._known_at = suspended_monotonic()

    def _scope(self, provider: str) -> str:
        scope = self._scopes.get(provider)
        if scope is None:
            if len(self._scopes) >= _SCOPES:
                self._scopes.clear()
            scope = self._scopes[provider] = sealed_scope(self._sealer, provider)
        return scope

    def _left_alone(self, provider: str) -> Breaker | None:
        return self._open.get(self._scope(provider)) if self._open else None

    def _disbelieved(self, provider: str) -> bool:
        return self._left_alone(provider) is not None or bool(self._tripped and self._scope(provider) in self._tripped)

    # Trips that took effect

    def applied(self, trip: Trip) -> None:
        """A trip took effect; what other workers recorded at the same moment is taken back a little later."""
        if isinstance(trip, ProviderTrip) and not trip.again:
            self._again[trip] = suspended_monotonic() + _AGAIN

    def repeat(self, *, at_once: bool = False) -> None:
        """Make due once more what took effect some seconds ago."""
        now = suspended_monotonic()
        for trip, at in list(self._again.items()):
            if at_once or now >= at:
                self.due.append(replace(trip, again=True))
            if now >= at:
                del self._again[trip]

    # Letters before they are written

    def wrote(self, letters: Iterable[Letter], now: dt.datetime) -> None:
        """These are handed over. Only those that are untried count: whom one has refused before says nothing of all."""
        self._providers.wrote(Counter([letter.provider for letter in letters if letter.untried]), now)

    def to_probe(self, letters: Iterable[Letter], now: dt.datetime) -> set[str]:
        """The scopes of these letters whose hold is over: somebody must try them."""
        found = [self._left_alone(provider) for provider in {letter.provider for letter in letters}]
        return {one.scope for one in found if one and one.until and one.until <= now and one.scope not in self._probes}

    def begin_probe(self, scope: str) -> None:
        """The next few letters to that scope may go."""
        self._probes[scope] = Probe()
        self.probing = True

    def admit(self, letters: Sequence[Letter], now: dt.datetime) -> tuple[list[Letter], list[Outcome]]:
        """The letters that may go, and the outcomes of the others, which are due when their provider's hold is over."""
        go: list[Letter] = []
        held: list[Outcome] = []
        for letter in letters:
            known = self._left_alone(letter.provider)
            probe = self._probes.get(known.scope) if known else None
            if known is None:
                go.append(letter)
            elif probe is not None and probe.left:
                probe.left -= 1
                go.append(letter)
            else:
                until = known.until if known.until and known.until > now else now + _SOON
                held.append(unsent(letter, "its provider is left alone", until))
        return go, held

    def must_pause(self, mailing: int) -> bool:
        """Whether no letter of the mailing may be written any more."""
        return any(isinstance(trip, PolicyTrip) and trip.mailing == mailing for trip in self.due)

    # Replies

    def accepted(self, mailing: int, letters: int) -> None:
        """So many replies were read, in a row, that needed no look."""
        if letters:
            self._counter(mailing).others(letters)

    def heard(self, mailing: int, outcome: Outcome) -> Outcome:
        """Judge one reply; the outcome to record: hard refusals by a provider that is left alone are not believed."""
        reply_class = outcome.reply_class
        if reply_class is not ReplyClass.POLICY:
            self._counter(mailing).others(1)
        elif self._counter(mailing).refused():
            self._policy_trip(mailing, outcome)
        disbelieved = self._disbelieved(outcome.provider)
        if self._probes:
            self._heard_probe(mailing, outcome)
        if reply_class not in {ReplyClass.HARD, ReplyClass.POLICY}:
            return outcome
        if not disbelieved:
            self._count_refusal(mailing, outcome)
        elif reply_class is ReplyClass.HARD:
            return outcome._replace(reply_class=ReplyClass.TRANSIENT)
        return outcome

    def returned(self, outcome: Outcome) -> None:
        """A letter was not sent after all."""
        if outcome.untried:
            self._providers.returned(outcome.provider)

    def _policy_trip(self, mailing: int, outcome: Outcome) -> None:
        self.due.append(PolicyTrip(mailing, _policy_reason(mailing, outcome)))
        # What is counted begins anew; no provider is blamed for what is our fault.
        del self._policy[mailing]
        self._providers = ProviderCounter()

    def _counter(self, mailing: int) -> PolicyCounter:
        counter = self._policy.get(mailing)
        if counter is None:
            while len(self._policy) >= _MAILINGS:
                self._policy.pop(next(iter(self._policy)))
            counter = self._policy[mailing] = PolicyCounter()
        return counter

    def _count_refusal(self, mailing: int, outcome: Outcome) -> None:
        if not outcome.untried:
            return
        hard = outcome.reply_class is ReplyClass.HARD
        proven = bool(self._known) and self._scope(outcome.provider) in self._known
        tally = self._providers.refused(outcome.provider, hard=hard, proven=proven)
        if tally is None:
            return
        scope = self._scope(outcome.provider)
        self._tripped.add(scope)
        letters, refused = tally.sums()
        kind = OUTAGE if tally.outage else HARD if tally.mostly_hard else POLICY
        reason = f"it refused {refused} of the last {letters} letters, at last with: {said(outcome)}"
        self.due.append(ProviderTrip(mailing, scope, kind, reason, tally.since))

    # Probes

    def _heard_probe(self, mailing: int, outcome: Outcome) -> None:
        scope = self._scope(outcome.provider)
        probe = self._probes.get(scope)
        if probe is None:
            return
        if outcome.reply_class is ReplyClass.ACCEPTED:
            probe.taken += 1
        elif outcome.reply_class in {ReplyClass.HARD, ReplyClass.POLICY}:
            probe.refused += 1
        self._judge(mailing, scope, said(outcome), over=False)

    def _judge(self, mailing: int, scope: str, words: str, *, over: bool) -> None:
        verdict = self._probes[scope].verdict(over=over)
        if verdict is not None:
            self._forget_probe(scope)
            reason = f"it refused most of a few letters that tried it, at last with: {words}"
            self.due.append(ProbeOver(mailing, scope, verdict, reason))

    def _forget_probe(self, scope: str) -> None:
        del self._probes[scope]
        self.probing = bool(self._probes)

    def batch_over(self, mailing: int) -> None:
        """No more letters of this batch come: what the probes have heard until now must do."""
        for scope in list(self._probes):
            self._judge(mailing, scope, "see the ledger", over=True)
            if scope in self._probes:
                self._forget_probe(scope)


def said(outcome: Outcome) -> str:
    """The relay's words about a letter, without the domain of a provider that is not known to all."""
    enhanced = outcome.enhanced or ""
    words = outcome.text if enhanced and outcome.text.startswith(enhanced) else f"{enhanced} {outcome.text}"
    if outcome.provider and outcome.provider not in KNOWN:
        words = words.replace(outcome.provider, "…")
    return f"{outcome.code or ''} {words}".strip()


def unsent(letter: Letter, text: str, due: dt.datetime | None = None) -> Outcome:
    """The outcome of a gated letter that is not given to the wire."""
    return Outcome.of(letter, ReplyClass.NOT_SENT, Reply(0, None, text), Phase.MAIL, "", past_dot=False, due=due)


def _policy_reason(mailing: int, outcome: Outcome) -> str:
    return (
        f"{outcome.relay} refuses our mail by policy: {said(outcome)}. No reader was suppressed. Mend what it says, "
        f"then run: tydzen mailing resume {mailing}, and for those it refused: tydzen mailing retry {mailing}"
    )
