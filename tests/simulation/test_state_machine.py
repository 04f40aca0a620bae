"""The tables of states against the statements that write them: whatever may happen to a delivery, in any order.

Each rule does to one small database what a part of the engine does, and asks `domain.delivery.after` what must have
become of each delivery. What the table does not allow must not happen; what it demands must.
"""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.delivery import control, progress
from service.domain.delivery import DeliveryEvent, DeliveryState, SkipReason, after
from service.domain.errors import ConflictError
from service.domain.mailing import MailingEvent, MailingState
from service.domain.mailing import after as mailing_after
from service.domain.replies import ReplyClass
from service.store import batches, gate, mailings, outcomes, subscribers, tables
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


class Deliveries(RuleBasedStateMachine):
    """A mailing in hands that do anything at any time, and the model of what must come of it."""

    shelf: Shelf

    @initialize()
    def begin(self):
        self.template = self.shelf.template(_PLAN)
        self.world = World(1)
        substitutes.begin(self.world, None, substitutes.now.timeouts)
        self.database = self.shelf.lay_out(self.template)
        self.site = Site(self.world, self.database, Network(self.world, None), self.template.mailing)
        self.mailing = self.template.mailing
        self.model = dict.fromkeys(self.template.readers, (_S.PENDING, None))
        self.attempts = dict.fromkeys(self.template.readers, 0)
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
    @rule(data=st.data(), old=st.booleans())
    def pass_gate(self, data, old):
        claimed, until = self.claims[data.draw(st.sampled_from(sorted(self.claims)))]
        if old:
            claimed = batches.Claim(**{**_fields(claimed), "fence": claimed.fence - 1})
        group = sorted(one for one in self.model if self.batch_of[one] == claimed.batch)
        wanted = data.draw(st.lists(st.sampled_from(group), unique=True, min_size=1))
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
                self.attempts[delivery] += 1
                passed.add((delivery, self.attempts[delivery]))
        assert {(one.delivery, one.attempt) for one in gated.recipients} == passed

    @rule(data=st.data(), word=st.sampled_from(sorted(WORDS)), late=st.booleans())
    def hear(self, data, word, late):
        """An outcome arrives, of the present attempt or of one before: at once, from a journal, or twice."""
        delivery = data.draw(st.sampled_from(sorted(self.model)))
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
        if before is _S.UNCERTAIN and state in {_S.UNCERTAIN, _S.EXPIRED}:
            # Nobody says that: silence adds nothing to silence, and what is uncertain is never given up for its age.
            self.model[delivery] = (state, reply_class.value)
            return
        assert self.expect(delivery, event, due or reply_class.value) is state

    @rule(batch=st.integers(1, 2))
    def lose_a_commit(self, batch):
        """A worker takes back what a gate whose commit nobody knows of may have marked."""
        ids = [one for one in self.model if self.batch_of[one] == batch]
        with self.database.begin() as session:
            outcomes.take_back(session, batch, ids, sender=7, now_ms=self.now_ms())
            batches.settle(session, [batch])
        for delivery in ids:
            if self.model[delivery][0] is _S.ATTEMPTING:
                self.expect(delivery, _E.UNSENT)

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
    def correct(self, *_, **__):
        return ()


def _fields(claimed):
    return {name: getattr(claimed, name) for name in claimed.__slots__}


def after_all(state):
    """Whether nothing more happens to such a delivery by itself."""
    return state not in {_S.PENDING, _S.ATTEMPTING, _S.DEFERRED}


@pytest.fixture(scope="module")
def shelf():
    with substitutes.substituted():
        yield Shelf()


def test_every_order_of_events_follows_the_tables(shelf):
    class OnThisShelf(Deliveries):
        pass

    OnThisShelf.shelf = shelf
    case = OnThisShelf.TestCase
    case.settings = settings(
        max_examples=12, stateful_step_count=20, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    case("runTest").debug()
