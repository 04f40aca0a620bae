"""Whatever happens in whatever order, each reader is counted once, and nothing moves but as the table of states says."""

from __future__ import annotations

import contextlib
import datetime as dt

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.delivery import progress
from service.domain.delivery import TRANSITIONS, DeliveryState
from service.domain.errors import ConflictError
from service.store import outcomes, senders, tables
from service.store.instants import stored
from tests.installation import miscounted
from tests.unit.delivery.parts import NOW, Run, result

READERS = 12
ALLOWED = {(before, after) for (before, _), after in TRANSITIONS.items()}
S = DeliveryState
OUTCOMES = [
    (S.ACCEPTED, {}),
    (S.ACCEPTED, {}),
    (S.REFUSED, {"reason": "hard", "suppress": True}),
    (S.REFUSED, {"reason": "policy"}),
    (S.DEFERRED, {"reason": "transient", "due_ms": stored(NOW) + 60_000}),
    (S.UNCERTAIN, {"reason": "uncertain"}),
    (S.EXPIRED, {"reason": "transient"}),
    (S.PENDING, {}),
]


class World:
    """A mailing and everything that may be done to it; each deed is one or a few transactions."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.claims: list = []
        self.open: list = []  # attempts whose outcome is on its way
        self.senders = [run.register() for _ in range(2)]
        self.before = run.states()
        self.mailed: dict[int, int] = {}  # letters that passed the dot and may have arrived, by delivery

    def check(self) -> None:
        after = self.run.states()
        assert after.keys() == self.before.keys()
        moved = {(self.before[one], state) for one, state in after.items() if self.before[one] is not state}
        assert moved <= ALLOWED
        self.before = after
        assert not miscounted(self.run.database, self.run.mailing)
        assert sum(self.run.counts().values()) == READERS

    # Workers

    def claim(self, one: int, other: int) -> None:
        numbers = self.run.batch_ids()
        found = self.run.claim(
            numbers[one % len(numbers)], sender=self.senders[other % 2], lease=60 if other % 3 else 0
        )
        if found is not None:
            self.claims.append((found, self.senders[other % 2]))

    def gate(self, one: int, other: int) -> None:
        if not self.claims:
            return
        claim, sender = self.claims[one % len(self.claims)]
        ids = self.run.due(claim)
        self.check()
        gated = self.run.gate(claim, ids[: 1 + other % 5], sender=sender)
        for recipient in gated.recipients if gated else ():
            # G2: nobody is handed out whose letter may have arrived.
            assert not self.mailed.get(recipient.delivery)
            self.open.append((recipient, sender))

    def record(self, one: int, other: int) -> None:
        if not self.open:
            return
        recipient, _ = self.open.pop(one % len(self.open))
        state, more = OUTCOMES[other % len(OUTCOMES)]
        self.run.record(result(recipient, state, **more))
        if state in {S.ACCEPTED, S.UNCERTAIN}:
            self.mailed[recipient.delivery] = recipient.attempt
        # Told twice, and with another word: the first stays, but for an uncertain one.
        self.run.record(result(recipient, state, **more))

    def give_back(self, one: int, other: int) -> None:
        if self.claims:
            self.run.give_back(self.claims.pop(one % len(self.claims))[0])

    def die(self, one: int, other: int) -> None:
        """A sender dies: its journal says of each letter that it was not sent, or that nobody knows."""
        dead = self.senders[one % 2]
        with self.run.database.begin() as session:
            left = outcomes.open_attempts(session, dead)
            fates = []
            for number, attempt in enumerate(left):
                if attempt.state is S.UNCERTAIN:
                    continue
                state = S.UNCERTAIN if (other >> number) & 1 else S.PENDING
                fates.append(outcomes.Result(attempt.delivery, attempt.attempt, state, state.label))
                if state is S.UNCERTAIN:
                    self.mailed[attempt.delivery] = attempt.attempt
            outcomes.record(session, fates, now_ms=stored(self.run.now))
            senders.settle(session, dead)
        # Its process is gone: it records nothing more.
        self.open = [(recipient, sender) for recipient, sender in self.open if sender != dead]
        self.claims = [(claim, sender) for claim, sender in self.claims if sender != dead]

    # Everybody else

    def control(self, one: int, other: int) -> None:
        verb = ("pause", "resume", "cancel", "retry")[one % 4]
        with contextlib.suppress(ConflictError):
            self.run.control(verb)

    def leave(self, one: int, other: int) -> None:
        status = ("unsubscribed", "active", "complained")[other % 3]
        self.run.change_reader(one % READERS, status=status)

    def choose(self, one: int, other: int) -> None:
        self.run.change_reader(one % READERS, chain=("en", "be,ru", "ru")[other % 3])

    def later(self, one: int, other: int) -> None:
        self.run.now += dt.timedelta(seconds=40)

    def tidy(self, one: int, other: int) -> None:
        with self.run.database.begin() as session:
            progress.tidy(session, now=self.run.now)

    # The end

    def finish(self) -> None:
        """Left alone, with a worker that works, every mailing comes to its end."""
        for one, sender in enumerate(self.senders):
            self.die(one, 0)
            assert sender
        self.check()
        self.tidy(0, 0)
        self.check()
        if self.run.state() == "paused":
            self.run.control("resume")
        self.run.now += dt.timedelta(hours=1)
        worker = self.run.register()
        for _ in range(3):
            for number in self.run.batch_ids():
                claim = self.run.claim(number, sender=worker)
                if claim is None:
                    continue
                gated = self.run.gate(claim, sender=worker)
                self.run.record(*(result(one, S.ACCEPTED) for one in gated.recipients))
                self.run.give_back(claim)
        self.tidy(0, 0)
        assert self.run.state() in {"sent", "cancelled"}
        assert not {S.PENDING, S.ATTEMPTING, S.DEFERRED} & set(self.run.states().values())
        assert not miscounted(self.run.database, self.run.mailing)


DEEDS = [
    World.claim, World.claim, World.gate, World.gate, World.gate, World.record, World.record, World.record,
    World.give_back, World.die, World.control, World.leave, World.choose, World.later, World.tidy,
]  # fmt: skip


@pytest.fixture(scope="module")
def fresh():
    """Puts a planned mailing back to where it began, because planning one takes a while."""

    def reset(run: Run, first: list[int]) -> None:
        run.now = NOW
        deliveries, batches, of_mailing = tables.deliveries, tables.batches, tables.mailings
        with run.database.begin() as session:
            session.execute(tables.attempts.delete())
            session.execute(tables.suppressions.delete())
            session.execute(tables.subscribers.update().values(status="active", chain="en"))
            session.execute(of_mailing.update().values(state="sending", finished_at=None))
            # Batches of five, as they were cut.
            ids = session.execute(sa.select(deliveries.c.id).order_by(deliveries.c.id)).scalars().all()
            for place, batch in enumerate(first):
                part = ids[place * 5 : place * 5 + 5]
                values = {"state": 0, "attempts": 0, "sender_id": None, "due_at": None, "reason": None}
                session.execute(deliveries.update().where(deliveries.c.id.in_(part)).values(batch_id=batch, **values))
                counts = {state.label: 0 for state in S} | {"pending": len(part)}
                fields = {"open": True, "fence": 0, "lease_until": 0, "due_at": 0, "rung_at": 0, **counts}
                session.execute(batches.update().where(batches.c.id == batch).values(fields))
            session.execute(batches.delete().where(batches.c.id.not_in(first)))

    return reset


STEPS = st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 63), st.integers(0, 63)), min_size=20, max_size=60)


def explore(database, fresh, examples):
    run = Run(database, readers=READERS, batch_limit=5)
    first = run.batch_ids()
    assert len(first) == 3

    @settings(max_examples=examples, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(STEPS)
    def whatever(steps):
        fresh(run, first)
        world = World(run)
        for deed, one, other in steps:
            deed(world, one, other)
            world.check()
        world.finish()

    whatever()


@pytest.mark.slow
def test_numbers_add_up_whatever_happens(sqlite_database, fresh):
    explore(sqlite_database, fresh, 40)


@pytest.mark.slow
def test_numbers_add_up_whatever_happens_on_postgresql(postgresql_database, fresh):
    explore(postgresql_database, fresh, 25)
