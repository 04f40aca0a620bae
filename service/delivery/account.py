"""The account of one batch: outcomes that are not recorded yet, and transactions that record them as they go."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from service import faults, log
from service.clock import suspended_monotonic
from service.delivery import recording
from service.delivery.limits import Limits
from service.delivery.meter import Meter
from service.delivery.offload import Offload
from service.delivery.patience import AWAY_SECONDS, Patience, until_there
from service.domain.replies import ReplyClass
from service.mail.letter import Outcome
from service.store import Database, DatabaseAwayError, Session, batches, limits, outcomes
from service.store.batches import Claim
from service.store.gate import Acceptances
from service.store.instants import stored

_log = log.get("send")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Deliveries that a transaction marks as being attempted by `sender`."""

    sender: int
    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Answer(Generic[_Value]):
    """What a transaction of one statement came to.

    Whether it has recorded all acceptances, and what is to be done for it in another transaction.
    """

    value: _Value
    all_recorded: bool
    rest: Callable[[Session], None] | None = None


# Asks the statement, in the loop; None where it declines.
_AskAlone = Callable[[Database, Acceptances], Awaitable[Answer[_Value] | None]]


@dataclass(slots=True)
class Account:
    """Belongs to one run of one batch."""

    database: Database
    offload: Offload
    limits: Limits
    meter: Meter
    now: Callable[[], dt.datetime]
    stopping: Callable[[], bool]
    claim: Claim
    # Called in the database's thread once it is back: it may be a copy that lagged behind.
    returned: Callable[[], object]
    last_sign: float = field(default_factory=suspended_monotonic)
    _spoken: list[Outcome] = field(default_factory=list)
    _losses: int = field(init=False)  # of the database's connections, that are accounted for
    # Letters that were counted for a day's cap and not sent, by scope and day.
    _unused: Counter[tuple[str, dt.date]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """What was lost before is the dispatcher's to compare."""
        self._losses = self.database.losses

    @property
    def open(self) -> bool:
        """Whether there are outcomes to record."""
        return bool(self._spoken)

    @property
    def gives_back(self) -> bool:
        """Whether letters that were counted for a day's cap are to be given back to it."""
        return bool(self._unused)

    def add(self, outcome: Outcome) -> None:
        """Record this with the next transaction."""
        self._spoken.append(outcome)

    def unused(self, scopes: Iterable[str], day: dt.date) -> None:
        """Give back to the caps of these scopes one letter that was not sent."""
        self._unused.update((scope, day) for scope in scopes)

    async def transaction(
        self,
        work: Callable[[Session], _Value],
        *,
        first: Callable[[Session], None] | None = None,
        alone: _AskAlone[_Value] | None = None,
        doubtful: Doubtful | None = None,
    ) -> _Value:
        """Run `work` in a transaction beside the loop, with the outcomes known by now recorded in the same.

        `first` runs before anything else of it. `alone` does what both do and records acceptances, in one statement: it
        is used where there is nothing else to record, and may decline. While the database is away it tries again; a
        worker that must stop does so for seconds only, and leaves the rest to its journal. `doubtful` names deliveries
        that `work` marks as being attempted: a commit of which nobody knows whether it happened is taken back before
        the next try.
        """
        patience = Patience(self.stopping)
        while True:
            spoken, self._spoken = self._spoken, []
            # Never given back twice: after a commit that nobody knows of, a cap rather stays too low.
            unused, self._unused = self._unused, Counter()
            try:
                value = await self._attempt(spoken, unused, first, alone, work)
            except DatabaseAwayError as error:
                self._spoken = spoken + self._spoken
                _log.warning("database-away", batch=self.claim.batch, error=str(error))
                self.database.run_short()
                if patience.over():
                    raise
                await asyncio.sleep(AWAY_SECONDS)
                await self._take_back(doubtful, patience)
                self._losses = self.database.losses
                # A second has passed: whatever was gated before has its dot in the journal, or gets none.
                await until_there(self.offload, self.returned, patience, batch=self.claim.batch)
                continue
            except BaseException:
                self._spoken = spoken + self._spoken
                raise
            self.last_sign = suspended_monotonic()
            self.meter.outcomes(self.claim.mailing, spoken)
            return value

    async def _attempt(
        self,
        spoken: list[Outcome],
        unused: Counter[tuple[str, dt.date]],
        first: Callable[[Session], None] | None,
        alone: _AskAlone[_Value] | None,
        work: Callable[[Session], _Value],
    ) -> _Value:
        if spoken:
            faults.point("before-record")
        if unused:
            # By itself: counted in the order of scopes, as `first` counts its own, they lock each other out of nothing.
            await self.offload.database(partial(self._in_transaction, partial(_give_back, unused)))
        done = None
        if alone is not None and self.database.asks_alone and not self._more_to_store():
            done = await self._alone(spoken, alone)
        if done is None:
            done = (await self.offload.database(partial(self._together, spoken, first, work)),)
        if self.database.losses != self._losses:
            # A pool takes a new connection in silence. Nobody knows what answered it, nor what it knows.
            raise DatabaseAwayError("a connection was lost, and another was taken")
        faults.point("after-record")
        return done[0]

    def _more_to_store(self) -> bool:
        return self.limits.stale or self.meter.due

    async def _alone(self, spoken: list[Outcome], alone: _AskAlone[_Value]) -> tuple[_Value] | None:
        accepted = recording.acceptances(spoken)
        if accepted is None:
            return None
        _before_commit()
        done = await alone(self.database, accepted)
        if done is None:
            return None
        left = () if done.all_recorded else (partial(self._record, spoken=spoken),)
        for work in (*left, done.rest):
            if work is not None:
                await self.offload.database(partial(self._in_transaction, work))
        return (done.value,)

    def _in_transaction(self, work: Callable[[Session], None]) -> None:
        with self.database.begin() as session:
            work(session)

    def _record(self, session: Session, spoken: list[Outcome]) -> None:
        changed = recording.record(session, spoken, now=self.now())
        if all(outcome.reply_class is ReplyClass.ACCEPTED for outcome in spoken):
            # Its own is settled when it is given back; what comes back to it may find it closed by others.
            changed.discard(self.claim.batch)
        batches.settle(session, sorted(changed))

    def _together(
        self,
        spoken: list[Outcome],
        first: Callable[[Session], None] | None,
        work: Callable[[Session], _Value],
    ) -> _Value:
        with self.database.begin() as session:
            if first is not None:
                first(session)
            if spoken:
                self._record(session, spoken)
            value = work(session)
            if self.limits.stale:
                self.limits.read(session, self.now())
            self.meter.store(session, self.now())
            _before_commit()
        return value

    async def _take_back(self, doubtful: Doubtful | None, patience: Patience) -> None:
        """Nothing of this group was written: whatever the lost commit did to it is undone."""
        if doubtful is None:
            return

        def undo() -> None:
            with self.database.begin() as session:
                batch, now_ms = self.claim.batch, stored(self.now())
                if outcomes.take_back(session, batch, doubtful.ids, sender=doubtful.sender, now_ms=now_ms):
                    batches.settle(session, [batch])

        await until_there(self.offload, undo, patience, batch=self.claim.batch)


def _give_back(unused: Counter[tuple[str, dt.date]], session: Session) -> None:
    for (scope, day), letters in sorted(unused.items()):
        limits.count(session, (scope,), day, -letters)


def _before_commit() -> None:
    """Where one statement is the whole transaction nothing stands between its work and its commit: before both."""
    faults.point("record-commit")
