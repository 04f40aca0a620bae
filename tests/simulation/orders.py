"""The tables of states against the statements that write them: whatever may happen to a delivery, in any order.

Each rule does to one small database what a part of the engine does, and asks `domain.delivery.after` what must have
become of each delivery. What the table does not allow must not happen; what it demands must.

Of G2 it asks, at every gate: of each earlier attempt the engine was told that its letter was not taken, or an operator
has asked for just this letter to be sent again.
"""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.delivery import control, progress, resolving
from service.delivery.resolving import Verdict
from service.domain.delivery import RESOLVED, DeliveryEvent, DeliveryState, SkipReason, after
from service.domain.errors import ConflictError
from service.domain.mailing import MailingEvent, MailingState
from service.domain.mailing import after as mailing_after
from service.domain.replies import ReplyClass
from service.store import batches, gate, mailings, outcomes, subscribers, tables, uncertain
from service.store.instants import stored
from service.store.outcomes import Result
from tests.factories import JOINED
from tests.installation import miscounted
from tests.simulation import substitutes
from tests.simulation.machines import Network, Site
from tests.simulation.templates import Plan, Shelf
from tests.simulation.world import World

_S, _E = DeliveryState, DeliveryEvent
_PLAN = Plan(6, 1, 3)
LEASE = 60.0

# What a relay, a journal or silence may say of an attempt, and the event that it is.
WORDS = {
    "accepted": (_S.ACCEPTED, _E.ACCEPTED, ReplyClass.ACCEPTED),
    "unsent": (_S.PENDING, _E.UNSENT, ReplyClass.NOT_SENT),
    "deferred": (_S.DEFERRED, _E.DEFERRED, ReplyClass.TRANSIENT),
    "refused": (_S.REFUSED, _E.REFUSED, ReplyClass.HARD),
    "policy": (_S.REFUSED, _E.REFUSED, ReplyClass.POLICY),
    "silence": (_S.UNCERTAIN, _E.LOST_TRACK, ReplyClass.UNCERTAIN),
    "expired": (_S.EXPIRED, _E.GIVEN_UP, ReplyClass.TRANSIENT),
}
# Silence more often than in life, as most that is asked here is asked of what is uncertain.
_OFTEN = ("silence", "silence", "silence", "accepted", "unsent", "deferred", "refused", "policy")
_RESOLVED = {
    Verdict.RESEND: _E.RESOLVED_RESEND,
    Verdict.ACCEPTED: _E.RESOLVED_ACCEPTED,
    Verdict.REFUSED: _E.RESOLVED_REFUSED,
}


class Deliveries(RuleBasedStateMachine):
    """A mailing in hands that do anything at any time, and the model of what must come of it."""

    shelf: Shelf

    @initialize()
    def begin(self):
        self.template = self.shelf.template(_PLAN)
        self.world = World(1)
        substitutes.begin(self.world, None, substitutes.now.timeouts)
        self.database = self.shelf.lay_out(self.template)
        self.site = Site(self.world, self.database, Network(self.world, None))
        self.mailing = self.template.mailing
        self.model = dict.fromkeys(self.template.readers, (_S.PENDING, None))
        self.attempts = dict.fromkeys(self.template.readers, 0)
        self.may_have_come = {one: set() for one in self.template.readers}  # attempts whose letter may be there
        self.sent_again = {one: set() for one in self.template.readers}  # those that an operator had sent again
        self.seen = []  # what an operator was shown as uncertain, some time ago
        self.claims = {}
        self.gone = set()
        self.state = MailingState.SENDING
        with self.database.read() as session:
            rows = session.execute(tables.deliveries.select())
            self.batch_of = {row.id: row.batch_id for row in rows}

    # What the model says

    def expect(self, delivery, event, reason=None):
        state, _ = self.model[delivery]
        following = after(state, event)
        if following is not None:
            self.model[delivery] = (following, reason)
        return following

    def move(self, event):
        following = mailing_after(self.state, event)
        if following is not None:
            self.state = following
        return following

    def now_ms(self):
        return stored(substitutes.now.wall())

    # Workers

    @rule(batch=st.integers(1, 2))
    def claim(self, batch):
        with self.database.begin() as session:
            claimed = batches.claim(session, batch, sender=7, lease_seconds=LEASE, now_ms=self.now_ms())
        if claimed is not None:
            assert self.state is MailingState.SENDING
            held = self.claims.get(batch)
            assert held is None or held[1] <= self.world.now, "two hold one batch"
            self.claims[batch] = (claimed, self.world.now + LEASE)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def wake_deferred(self, data):
        claimed, _ = self.claims[data.draw(st.sampled_from(sorted(self.claims)))]
        with self.database.begin() as session:
            due = batches.take_due(session, claimed, self.now_ms())
        for delivery, (state, reason) in list(self.model.items()):
            if self.batch_of[delivery] == claimed.batch and state is _S.DEFERRED and reason <= self.now_ms():
                self.expect(delivery, _E.DUE)
        assert set(due) == {
            one for one, (state, _) in self.model.items() if state is _S.PENDING and self.batch_of[one] == claimed.batch
        }

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), old=st.sampled_from((False, False, True)))
    def pass_gate(self, data, old):
        claimed, until = self.claims[data.draw(st.sampled_from(sorted(self.claims)))]
        if old:
            claimed = batches.Claim(**{**_fields(claimed), "fence": claimed.fence - 1})
        group = sorted(one for one in self.model if self.batch_of[one] == claimed.batch)
        self.gate(claimed, until, data.draw(st.lists(st.sampled_from(group), unique=True, min_size=1)), old=old)

    def gate(self, claimed, until, wanted, *, old=False):
        with self.database.begin() as session:
            gated = gate.pass_gate(session, claimed, wanted, sender=7, lease_seconds=LEASE, now_ms=self.now_ms())
        if old or self.state is not MailingState.SENDING or until <= self.world.now:
            assert gated is None
            return
        self.claims[claimed.batch] = (claimed, self.world.now + LEASE)
        passed = set()
        for delivery in wanted:
            if self.model[delivery][0] is not _S.PENDING:
                continue
            if delivery in self.gone:
                self.expect(delivery, _E.SKIPPED, SkipReason.UNSUBSCRIBED.value)
            else:
                assert self.expect(delivery, _E.GATED) is _S.ATTEMPTING
                assert self.may_have_come[delivery] == self.sent_again[delivery], "it may come twice, and nobody asked"
                self.attempts[delivery] += 1
                passed.add((delivery, self.attempts[delivery]))
        assert {(one.delivery, one.attempt) for one in gated.recipients} == passed

    @rule(data=st.data(), word=st.sampled_from(sorted(WORDS)), late=st.booleans())
    def hear(self, data, word, late):
        """An outcome arrives, of the present attempt or of one before: at once, from a journal, or twice."""
        self.outcome(data.draw(st.sampled_from(sorted(self.model))), word, late=late)

    def outcome(self, delivery, word, *, late=False):
        attempt = self.attempts[delivery] - late
        state, event, reply_class = WORDS[word]
        due = self.now_ms() + 300_000 if state is _S.DEFERRED else None
        result = Result(
            delivery, attempt, state, reply_class.value, due_ms=due, reason=reply_class.value, reply="said", phase="dot"
        )
        with self.database.begin() as session:
            touched = outcomes.record(session, [result], now_ms=self.now_ms())
            batches.settle(session, sorted(touched))
        before = self.model[delivery][0]
        if late or before not in {_S.ATTEMPTING, _S.UNCERTAIN}:
            assert not touched
            return
        self.note(delivery, state)
        if before is _S.UNCERTAIN and state in {_S.UNCERTAIN, _S.EXPIRED}:
            # Nobody says that: silence adds nothing to silence, and what is uncertain is never given up for its age.
            self.model[delivery] = (state, reply_class.value)
            return
        assert self.expect(delivery, event, due or reply_class.value) is state

    def note(self, delivery, state):
        """What is known of the letter of the present attempt."""
        if state in {_S.ACCEPTED, _S.UNCERTAIN}:
            self.may_have_come[delivery].add(self.attempts[delivery])
        else:
            self.may_have_come[delivery].discard(self.attempts[delivery])

    @rule(batch=st.integers(1, 2), data=st.data())
    def work(self, batch, data):
        """As it mostly goes: a batch is claimed, all that are left pass the gate, and of each something is heard."""
        self.claim(batch)
        if batch not in self.claims:
            return
        group = sorted(one for one in self.model if self.batch_of[one] == batch)
        self.gate(*self.claims[batch], group)
        for delivery in group:
            if self.model[delivery][0] is _S.ATTEMPTING:
                self.outcome(delivery, data.draw(st.sampled_from(_OFTEN)))

    @rule(batch=st.integers(1, 2), slept=st.booleans())
    def lose_a_commit(self, batch, slept):
        """A worker takes back what a gate whose commit nobody knows of may have marked, and of which it wrote nothing.

        Where its host `slept`, the others have taken that to be uncertain. What is uncertain for a letter of its own no
        such gate was for: that was not pending.
        """
        ids = [one for one in self.model if self.batch_of[one] == batch and self.model[one][0] is not _S.UNCERTAIN]
        for delivery in ids if slept else ():
            if self.model[delivery][0] is _S.ATTEMPTING:
                self.outcome(delivery, "silence")
        with self.database.begin() as session:
            outcomes.take_back(session, batch, ids, sender=7, now_ms=self.now_ms())
            batches.settle(session, [batch])
        for delivery in ids:
            if self.model[delivery][0] in {_S.ATTEMPTING, _S.UNCERTAIN}:
                self.expect(delivery, _E.UNSENT)
                self.note(delivery, _S.PENDING)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def give_back(self, data):
        claimed, _ = self.claims.pop(data.draw(st.sampled_from(sorted(self.claims))))
        with self.database.begin() as session:
            closed = batches.give_back(session, claimed)
        open_ones = [
            one
            for one, (state, _) in self.model.items()
            if self.batch_of[one] == claimed.batch and after_all(state) is False
        ]
        assert closed is (not open_ones)

    # People, and time

    @rule(seconds=st.sampled_from((1, 30, 70, 400)))
    def wait(self, seconds):
        self.world.now += seconds

    @rule(data=st.data())
    def leave(self, data):
        delivery = data.draw(st.sampled_from(sorted(self.model)))
        with self.database.begin() as session:
            reader = self.template.readers[delivery]
            subscribers.set_status(session, reader, subscribers.SubscriberStatus.UNSUBSCRIBED, week=JOINED)
        self.gone.add(delivery)

    @rule(verb=st.sampled_from(("pause", "resume", "cancel", "retry")))
    def intervene(self, verb):
        allowed = mailing_after(self.state, MailingEvent(verb)) is not None
        more = {"resume": {"proofs": _NoProofs()}, "retry": {"proofs": _NoProofs()}}.get(verb, {})
        parts = {"resume": (self.site,), "retry": (self.site, lambda *_: [])}.get(verb, ())
        try:
            with self.database.begin() as session:
                getattr(control, verb)(session, self.mailing, *parts, actor="test", now=substitutes.now.wall(), **more)
        except ConflictError:
            assert not allowed
            return
        assert allowed
        again = 0
        for delivery, (state, reason) in list(self.model.items()):
            if verb == "cancel":
                self.expect(delivery, _E.CANCELLED, SkipReason.CANCELLED.value)
            elif verb == "retry" and (
                state in {_S.DEFERRED, _S.EXPIRED}
                or (state is _S.SKIPPED and reason == SkipReason.CANCELLED.value)
                or (state is _S.REFUSED and reason == ReplyClass.POLICY.value)
            ):
                assert self.expect(delivery, _E.RETRIED) is _S.PENDING
                again += 1
        if verb != "retry" or again:
            self.move(MailingEvent(verb))

    def uncertain(self):
        return {(one, self.attempts[one]) for one, (state, _) in self.model.items() if state is _S.UNCERTAIN}

    @precondition(lambda self: self.seen or self.uncertain())
    @rule(data=st.data(), verdict=st.sampled_from(Verdict), again=st.booleans())
    def resolve(self, data, verdict, again):
        """An operator says what is to hold of those that were listed: just now, or when they stood otherwise."""
        if not (again and self.seen):
            with self.database.read() as session:
                self.seen = uncertain.listed(session, self.mailing)
            assert {(one.delivery, one.attempt) for one in self.seen} == self.uncertain()
        if not self.seen:
            return
        which = data.draw(st.lists(st.sampled_from(self.seen), unique=True, min_size=1))
        left = {(one.delivery, one.attempt) for one in which} & self.uncertain()
        resend = verdict is Verdict.RESEND
        cancelled = self.state is MailingState.CANCELLED
        allowed = not resend or mailing_after(self.state, MailingEvent.RESEND) is not None
        if resend and cancelled and any(state is _S.ATTEMPTING for state, _ in self.model.values()):
            allowed = False
        try:
            with self.database.begin() as session:
                count = resolving.resolve(
                    session, self.mailing, verdict, which, self.site,
                    proofs=_NoProofs(), actor="test", now=substitutes.now.wall(),
                )  # fmt: skip
        except ConflictError:
            assert not allowed
            return
        assert allowed
        assert count == len(left)
        for delivery in self.model if resend and cancelled else ():
            self.expect(delivery, _E.CANCELLED, SkipReason.CANCELLED.value)
        for delivery, attempt in left:
            self.expect(delivery, _RESOLVED[verdict], RESOLVED)
            if resend:
                self.sent_again[delivery].add(attempt)
            else:
                self.note(delivery, self.model[delivery][0])
        if resend and left:
            self.move(MailingEvent.RESEND)

    @rule()
    def tidy(self):
        with self.database.begin() as session:
            progress.tidy(session, now=substitutes.now.wall())
            self.state = mailings.get(session, self.mailing).state
        if self.state is MailingState.SENT:
            assert all(after_all(state) for state, _ in self.model.values())
        if self.state is MailingState.CANCELLED:
            for delivery in self.model:
                self.expect(delivery, _E.CANCELLED, SkipReason.CANCELLED.value)

    # What always holds

    @invariant()
    def the_database_is_the_model(self):
        if not hasattr(self, "model"):
            return
        with self.database.read() as session:
            rows = session.execute(tables.deliveries.select())
            found = {row.id: (_S(row.state), row.attempts) for row in rows}
        assert found == {one: (state, self.attempts[one]) for one, (state, _) in self.model.items()}
        assert miscounted(self.database, self.mailing) == []


class _NoProofs:
    def added(self, *_):
        return frozenset()

    def correct(self, *_, **__):
        return ()


def _fields(claimed):
    return {name: getattr(claimed, name) for name in claimed.__slots__}


def after_all(state):
    """Whether nothing more happens to such a delivery by itself."""
    return state not in {_S.PENDING, _S.ATTEMPTING, _S.DEFERRED}


def examine(shelf: Shelf, examples: int, steps: int, seed: int | None = None) -> None:
    """Go through so many orders of so many steps; without a `seed` the same ones each time. Raises where one fails."""

    class OnThisShelf(Deliveries):
        pass

    OnThisShelf.shelf = shelf
    if seed is not None:
        hypothesis.seed(seed)(OnThisShelf)
    run_state_machine_as_test(
        OnThisShelf,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, database=None, deadline=None,
            derandomize=seed is None, phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
