"""From what the relay said to what the delivery becomes: the table of replies, applied."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable, Sequence

from service.domain.delivery import DeliveryState, Hindrance
from service.domain.replies import ReplyClass
from service.domain.retries import GIVE_UP_AFTER, next_attempt
from service.mail.letter import Outcome
from service.store import Session, breakers, outcomes
from service.store.gate import Acceptances
from service.store.instants import loaded, stored
from service.store.outcomes import Result

# Each class of reply and the state it leads to; a deferral that has lasted too long expires instead.
STATES: dict[ReplyClass, DeliveryState] = {
    ReplyClass.ACCEPTED: DeliveryState.ACCEPTED,
    ReplyClass.HARD: DeliveryState.REFUSED,
    ReplyClass.POLICY: DeliveryState.REFUSED,
    ReplyClass.CONTENT: DeliveryState.REFUSED,
    ReplyClass.PROTOCOL: DeliveryState.REFUSED,
    ReplyClass.SOFT: DeliveryState.DEFERRED,
    ReplyClass.TRANSIENT: DeliveryState.DEFERRED,
    ReplyClass.RELAY: DeliveryState.DEFERRED,
    ReplyClass.UNCERTAIN: DeliveryState.UNCERTAIN,
    ReplyClass.NOT_SENT: DeliveryState.PENDING,
}
# What only an operator's word sends again. A hard refusal may also be disbelieved, and then goes on as it was.
_ENDED = frozenset(
    one.value for one in (ReplyClass.POLICY, ReplyClass.CONTENT, ReplyClass.PROTOCOL, ReplyClass.UNCERTAIN)
)
# A mailbox that is full for good is refused at last, but never suppressed by one reply.
GIVEN_UP: dict[ReplyClass, DeliveryState] = {ReplyClass.SOFT: DeliveryState.REFUSED}


def record(session: Session, spoken: Iterable[Outcome], *, now: dt.datetime) -> set[int]:
    """Write what the relay said of each attempt; returns the batches whose counts changed."""
    accepted: dict[int, list[int]] = {}
    others: list[Result] = []
    for outcome in spoken:
        # Nearly all of them; nothing is kept of an acceptance but its time.
        if outcome.reply_class is ReplyClass.ACCEPTED:
            accepted.setdefault(outcome.attempt, []).append(outcome.delivery_id)
        else:
            others.append(result_of(session, outcome, now))
    now_ms = stored(now)
    return outcomes.record_accepted(session, accepted, now_ms=now_ms) | outcomes.record(session, others, now_ms=now_ms)


def acceptances(spoken: Iterable[Outcome]) -> Acceptances | None:
    """These outcomes, where all are acceptances of the same attempt; None where anything else is among them."""
    attempt, deliveries = 0, []
    for outcome in spoken:
        if outcome.reply_class is not ReplyClass.ACCEPTED or attempt not in (0, outcome.attempt):
            return None
        attempt = outcome.attempt
        deliveries.append(outcome.delivery_id)
    return Acceptances(attempt, deliveries)


def result_of(session: Session, outcome: Outcome, now: dt.datetime) -> Result:
    """Where `outcome` leaves its delivery, by the table of replies and the schedule of retries."""
    state = STATES[outcome.reply_class]
    if outcome.due is not None:
        return _held_back(session, outcome, outcome.due, now)
    if state in {DeliveryState.ACCEPTED, DeliveryState.PENDING}:
        return Result(outcome.delivery_id, outcome.attempt, state, outcome.reply_class.value)
    due: dt.datetime | None = None
    if state is DeliveryState.DEFERRED:
        due = _due_again(session, outcome.delivery_id, now)
        if due is None:
            state = GIVEN_UP.get(outcome.reply_class, DeliveryState.EXPIRED)
    return Result(
        outcome.delivery_id,
        outcome.attempt,
        state,
        outcome.reply_class.value,
        due_ms=None if due is None else stored(due),
        reason=outcome.reply_class.value,
        code=outcome.code or None,
        enhanced=outcome.enhanced,
        reply=outcome.text,
        phase=outcome.phase.value,
        relay=outcome.relay,
        suppress=outcome.reply_class is ReplyClass.HARD,
        soft=outcome.reply_class is ReplyClass.SOFT,
    )


def _held_back(session: Session, outcome: Outcome, due: dt.datetime, now: dt.datetime) -> Result:
    """It was not tried at all, so nothing is evidence; but even then it does not wait for longer than others.

    Only one that waits for its key does: the operator's keyring is no reader's fault.
    """
    locked = outcome.text == Hindrance.KEY
    late = not locked and due > _waits_since(session, outcome, now) + GIVE_UP_AFTER
    return Result(
        outcome.delivery_id,
        outcome.attempt,
        DeliveryState.EXPIRED if late else DeliveryState.DEFERRED,
        outcome.reply_class.value,
        due_ms=None if late else stored(due),
        reason=Hindrance.KEY if locked else Hindrance.PROVIDER,
    )


def _waits_since(session: Session, outcome: Outcome, now: dt.datetime) -> dt.datetime:
    """Since when a letter that is kept back has waited: it first failed, or the provider of an untried one went away.

    What an operator sets going has all its time before it.
    """
    _, failed = _series(outcomes.failures(session, outcome.delivery_id), now)
    since = failed or breakers.away_since(session, outcome.provider, now) or now
    return max(since, outcomes.begun(session, outcome.delivery_id) or since)


def _due_again(session: Session, delivery: int, now: dt.datetime) -> dt.datetime | None:
    failed, first = _series(outcomes.failures(session, delivery), now)
    # The jitter spreads load; nothing secret hangs on it.
    spread = random.random()  # noqa: S311
    return next_attempt(first or now, failed + 1, now, spread)


def _series(failures: Sequence[tuple[int, str]], now: dt.datetime) -> tuple[int, dt.datetime | None]:
    """How many attempts have failed since the letter was begun, or begun anew by an operator, and when the first did.

    Begun anew is what comes after the end of a letter: after a word that ended it, or the last of its 48 hours. By how
    much its waits were lengthened or shortened nobody knows.
    """
    failed, first, last = 0, None, now
    for at, said in [*((loaded(at_ms), said) for at_ms, said in failures), (now, "")]:
        late = first is not None and at > first + GIVE_UP_AFTER
        if first is not None and next_attempt(first, failed, last, 1.0 if late else 0.0) is None:
            failed, first = 0, None
        if not said:
            break
        first, last, failed = first or at, at, failed + 1
        if said in _ENDED:
            failed, first = 0, None
    return failed, first
