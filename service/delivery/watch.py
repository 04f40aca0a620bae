"""The watch of one worker process: what it has seen refused, and whom all workers know to be left alone."""

from __future__ import annotations

import datetime as dt
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from weakref import WeakSet

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
_TOO_LATE = 60.0  # seconds after that; what was recorded since may be a refusal that was rightly believed


@dataclass(frozen=True, slots=True)
class PolicyTrip:
    """A mailing that must pause."""

    mailing: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProviderTrip:
    """A provider that must be left alone; `since` is when the letters began that were counted.

    With `again` it takes effect once more, for what others recorded meanwhile, but not after `until`.
    """

    mailing: int
    scope: str
    kind: str
    reason: str
    since: dt.datetime
    again: bool = False
    until: float = float("inf")  # by `suspended_monotonic`


@dataclass(frozen=True, slots=True)
class ProbeOver:
    """A provider of which a few letters have shown how it is."""

    mailing: int
    scope: str
    passed: bool
    reason: str


Trip = PolicyTrip | ProviderTrip | ProbeOver


class Run(Protocol):
    """A run of a batch, as the watch sees it."""

    @property
    def mailing(self) -> int:
        """Whose letters it sends."""

    def uncounted(self) -> int:
        """How many letters have been accepted since this was asked the last time, but for those that were judged."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """The probe of a provider, by the run of a batch that began it: nobody else's letters are of it."""

    run: Run
    probe: Probe = field(default_factory=Probe)


class Watch:
    """Belongs to one event loop. Whoever finds trips that are `due` has them applied (see `delivery.breaking`)."""

    def __init__(self, sealer: Sealer) -> None:
        self.due: deque[Trip] = deque()
        self.probing = False  # whether acceptances must be looked at one by one
        self.holding = False  # whether letters must be
        self._known: Mapping[str, Breaker] = {}
        self._open: dict[str, Breaker] = {}
        self.told: dict[str, tuple[str, float]] = {}  # of relays in trouble: what this process told last, and when
        self._known_at = -_FRESH
        self._sealer = sealer
        self._policy: dict[int, PolicyCounter] = {}
        self._runs: WeakSet[Run] = WeakSet()  # that are at work
        self._providers = ProviderCounter()
        self._scopes: dict[str, str] = {}
        self._trials: dict[str, _Trial] = {}
        # What runs heard that heard too little, and after which trip: the next goes on from there.
        self._undecided: dict[str, tuple[int, Probe]] = {}
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
        still = {scope: one.trips for scope, one in self._open.items()}
        self._undecided = {s: known for s, known in self._undecided.items() if still.get(s) == known[0]}
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

    def over(self, trip: Trip) -> bool:
        """Have it due no more; whether it was, or another run has come to the same meanwhile."""
        if trip not in self.due:
            return False
        self.due.remove(trip)
        return True

    def applied(self, trip: Trip) -> None:
        """A trip took effect; what other workers recorded at the same moment is taken back a little later."""
        if isinstance(trip, ProviderTrip) and not trip.again:
            self._again[trip] = suspended_monotonic() + _AGAIN

    @property
    def repeats_in(self) -> float | None:
        """The seconds until all that took effect may be made due once more; None where nothing waits for that."""
        return max(0.0, max(self._again.values()) - suspended_monotonic()) if self._again else None

    def repeat(self, *, at_once: bool = False) -> None:
        """Make due once more what took effect some seconds ago, and drop what could not be for too long."""
        now = suspended_monotonic()
        for trip, at in list(self._again.items()):
            if at_once or now >= at:
                self.due.append(replace(trip, again=True, until=at + _TOO_LATE))
            if now >= at:
                del self._again[trip]
        for trip in [one for one in self.due if isinstance(one, ProviderTrip) and now > one.until]:
            self.due.remove(trip)

    # Letters before they are written

    def wrote(self, letters: Iterable[Letter], now: dt.datetime) -> None:
        """These are handed over. Only those that are untried count: whom one has refused before says nothing of all."""
        self._providers.wrote(Counter([letter.provider for letter in letters if letter.untried]), now)

    def to_probe(self, letters: Iterable[Letter], now: dt.datetime) -> set[str]:
        """The scopes of these letters whose hold is over: somebody must try them."""
        found = [self._left_alone(provider) for provider in {letter.provider for letter in letters}]
        return {one.scope for one in found if one and one.until and one.until <= now}

    def begin_probe(self, scope: str, run: Run, until: dt.datetime) -> None:
        """The next few letters of that run to that scope may go; until then nobody else's."""
        _, probe = self._undecided.pop(scope, (0, Probe()))
        self._trials[scope] = _Trial(run, probe)
        if scope in self._open:
            self._open[scope] = replace(self._open[scope], until=until)
        self.probing = True

    def begin(self, run: Run) -> None:
        """Replies to that run are to be expected."""
        self._runs.add(run)

    def admit(self, letters: Sequence[Letter], run: Run, now: dt.datetime) -> tuple[list[Letter], list[Outcome]]:
        """The letters of a run that may go, and the outcomes of the others, which are due when the hold is over."""
        go: list[Letter] = []
        held: list[Outcome] = []
        for letter in letters:
            known = self._left_alone(letter.provider)
            probe = self._probe(known.scope, run) if known else None
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

    def heard(self, outcome: Outcome, run: Run) -> Outcome:
        """Judge a reply to a run; the outcome to record: hard refusals by a provider left alone are not believed."""
        reply_class, mailing = outcome.reply_class, run.mailing
        self._count_accepted(mailing)
        if reply_class is not ReplyClass.POLICY:
            self._counter(mailing).others(1)
        elif self._counter(mailing).refused():
            self._policy_trip(mailing, outcome)
        disbelieved = self._disbelieved(outcome.provider)
        if self._trials:
            self._heard_probe(outcome, run)
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

    def _count_accepted(self, mailing: int) -> None:
        """Count what was accepted since the last reply that was judged, by whichever run: only so are rows rows."""
        self._counter(mailing).others(sum(run.uncounted() for run in self._runs if run.mailing == mailing))

    def _counter(self, mailing: int) -> PolicyCounter:
        # The one that was asked for last stands last, and goes last.
        counter = self._policy.pop(mailing) if mailing in self._policy else PolicyCounter()
        self._policy[mailing] = counter
        if len(self._policy) > _MAILINGS:
            del self._policy[next(iter(self._policy))]
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

    def _probe(self, scope: str, run: Run) -> Probe | None:
        trial = self._trials.get(scope)
        return trial.probe if trial is not None and trial.run is run else None

    def _heard_probe(self, outcome: Outcome, run: Run) -> None:
        scope = self._scope(outcome.provider)
        probe = self._probe(scope, run)
        if probe is None:
            return
        if outcome.reply_class is ReplyClass.ACCEPTED:
            probe.taken += 1
        elif outcome.reply_class in {ReplyClass.HARD, ReplyClass.POLICY}:
            probe.refused += 1
        self._judge(run.mailing, scope, said(outcome), over=False)

    def _judge(self, mailing: int, scope: str, words: str, *, over: bool) -> None:
        verdict = self._trials[scope].probe.verdict(over=over)
        if verdict is not None:
            reason = f"it refused most of a few letters that tried it, at last with: {words}"
            self.due.append(ProbeOver(mailing, scope, verdict, reason))
        if verdict is None and over and scope in self._open:
            heard = self._trials[scope].probe
            self._undecided[scope] = self._open[scope].trips, Probe(taken=heard.taken, refused=heard.refused)
        if verdict is not None or over:
            del self._trials[scope]
            self.probing = bool(self._trials)

    def run_over(self, run: Run) -> None:
        """No more letters of this run come: what the probes that it began have heard until now must do."""
        self._count_accepted(run.mailing)
        self._runs.discard(run)
        for scope in [scope for scope, trial in self._trials.items() if trial.run is run]:
            self._judge(run.mailing, scope, "see the ledger", over=True)


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
