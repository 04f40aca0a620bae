"""Outcomes: what became of each attempt, recorded by its id, whatever the fence says by then."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.delivery import UNFINISHED, DeliveryState, Hindrance, SkipReason
from service.domain.replies import ReplyClass
from service.store import bounces
from service.store.arrays import array_literal
from service.store.batches import add_counts, hold
from service.store.bounces import Said
from service.store.database import Session
from service.store.instants import loaded_or_none
from service.store.mailings import BEGUN
from service.store.tables import attempts, batches, deliveries, mailings, senders

_ATTEMPTING, _UNCERTAIN = int(DeliveryState.ATTEMPTING), int(DeliveryState.UNCERTAIN)

# What was uncertain when a cancelled mailing was taken up for others alone: nobody has named it, so where a journal or
# a log gives it back it is skipped at once. By a sweep, later, it might have been mailed by then.
LEFT = sa.and_(deliveries.c.state == _UNCERTAIN, deliveries.c.reason == SkipReason.CANCELLED.value)


@dataclass(frozen=True, slots=True)
class Result:
    """Where one attempt left its delivery. `reply` has its addresses cut out; `due_ms` is set for deferred ones.

    `suppress` says that the mailbox is not there; `soft` that the refusal is scored against it; `named` that somebody
    has decided that it is to be sent again.
    """

    delivery: int
    attempt: int
    state: DeliveryState
    outcome: str
    due_ms: int | None = None
    reason: str | None = None
    code: int | None = None
    enhanced: str | None = None
    reply: str | None = None
    phase: str | None = None
    relay: str | None = None
    suppress: bool = False
    soft: bool = False
    named: bool = False


def record(session: Session, results: Iterable[Result], *, now_ms: int) -> set[int]:
    """Write the outcomes of attempts that are still open (attempting, or uncertain until now); the batches touched.

    An outcome of an attempt that was settled meanwhile changes nothing.
    """
    accepted: dict[int, list[int]] = defaultdict(list)
    changes: dict[int, Counter[DeliveryState]] = defaultdict(Counter)
    for result in results:
        if result.state is DeliveryState.ACCEPTED:
            accepted[result.attempt].append(result.delivery)
        else:
            _write(session, result, now_ms, changes)
    # In the order of their ids, as every transaction that changes several does: no deadlock.
    for batch in sorted(changes):
        add_counts(session, batch, changes[batch])
    return set(changes) | record_accepted(session, accepted, now_ms=now_ms)


def record_accepted(session: Session, accepted: Mapping[int, list[int]], *, now_ms: int) -> set[int]:
    """As `record`, for acceptances alone: deliveries by the number of their attempt."""
    touched: set[int] = set()
    for attempt, ids in accepted.items():
        touched |= _accept(session, attempt, ids, now_ms)
    return touched


def _accept(session: Session, attempt: int, ids: list[int], now_ms: int) -> set[int]:
    """Mark these as accepted and count them on their batches; the batches."""
    touched: set[int] = set()
    found = 0
    for before in (DeliveryState.ATTEMPTING, DeliveryState.UNCERTAIN):
        values = {"attempt": attempt, "now": now_ms, "before": int(before)}
        if session.postgresql:
            changed = Counter(dict(session.rows(_POSTGRESQL_ACCEPT[before], {**values, "ids": array_literal(ids)})))
        else:
            marked = session.execute(_SQLITE_ACCEPT, {**values, "ids": json.dumps(ids)}).scalars()
            changed = Counter(marked)
            for batch, count in changed.items():
                add_counts(session, batch, {before: -count, DeliveryState.ACCEPTED: count})
        touched.update(changed)
        found += sum(changed.values())
        if found == len(ids):
            break
    return touched


_SQLITE_ACCEPT = sa.text(
    "UPDATE deliveries SET state = 2, at = :now, reason = NULL "
    "WHERE id IN (SELECT value FROM json_each(:ids)) AND attempts = :attempt AND state = :before RETURNING batch_id"
)
# In one statement with the counts: this runs with every group of letters.
_POSTGRESQL_ACCEPT = {
    before: f"""
        WITH marked AS (
            UPDATE deliveries SET state = 2, at = %(now)s, reason = NULL
            WHERE id = ANY(CAST(%(ids)s AS bigint[])) AND attempts = %(attempt)s AND state = %(before)s
            RETURNING batch_id
        ), totals AS (SELECT batch_id, count(*) AS accepted FROM marked GROUP BY batch_id)
        UPDATE batches b SET {before.label} = b.{before.label} - t.accepted, accepted = b.accepted + t.accepted
        FROM totals t WHERE b.id = t.batch_id RETURNING t.batch_id, t.accepted
        """  # noqa: S608  # the name of a column, from our own table of states
    for before in (DeliveryState.ATTEMPTING, DeliveryState.UNCERTAIN)
}


def _write(session: Session, result: Result, now_ms: int, changes: dict[int, Counter[DeliveryState]]) -> None:
    found = _change(session, result, now_ms)
    if found is None:
        return
    before, state, batch = found
    changes[batch][before] -= 1
    changes[batch][state] += 1
    if result.state is not DeliveryState.PENDING and result.outcome != ReplyClass.NOT_SENT.value:
        _keep_evidence(session, result, now_ms)
    if result.suppress:
        bounces.suppress(session, result.delivery, now_ms)
    if result.soft:
        said = Said(result.code, result.enhanced, result.reply)
        bounces.score(session, result.delivery, said, now_ms=now_ms)


def _change(session: Session, result: Result, now_ms: int) -> tuple[DeliveryState, DeliveryState, int] | None:
    """The states before and after, and the batch; None where the attempt was settled meanwhile."""
    values = _values(result)
    for before in (_ATTEMPTING, _UNCERTAIN):
        statement = (
            deliveries.update()
            .where(
                deliveries.c.id == result.delivery,
                deliveries.c.attempts == result.attempt,
                deliveries.c.state == before,
            )
            .values(at=now_ms, **values)
            .returning(deliveries.c.batch_id, deliveries.c.state)
        )
        row = session.execute(statement).first()
        if row is not None:
            return DeliveryState(before), DeliveryState(row.state), row.batch_id
    return None


def _values(result: Result) -> dict[str, Any]:
    values = {"state": int(result.state), "due_at": result.due_ms, "reason": _reason(result)}
    if result.state not in UNFINISHED or result.named:
        return values
    return {
        "state": sa.case((LEFT, int(DeliveryState.SKIPPED)), else_=values["state"]),
        "due_at": sa.case((LEFT, sa.null()), else_=sa.literal(values["due_at"], sa.BigInteger)),
        "reason": sa.case((LEFT, deliveries.c.reason), else_=values["reason"]),
    }


def _reason(result: Result) -> str | sa.ColumnElement[str] | None:
    """Why it stands as it does; of a letter that was not sent after all, rather what a relay said of it before.

    By that the gate knows what is untried. Its attempt's number is never used again: the journal, and whoever repeats a
    transaction whose commit was lost, know an attempt by delivery and number alone.
    """
    if result.outcome != ReplyClass.NOT_SENT.value or result.state is DeliveryState.EXPIRED:
        return result.reason
    return sa.case((_UNTOLD, sa.literal(result.reason)), else_=deliveries.c.reason)


_UNTOLD = sa.or_(deliveries.c.reason.is_(None), deliveries.c.reason.in_([one.value for one in Hindrance]))


def _keep_evidence(session: Session, result: Result, now_ms: int) -> None:
    values: dict[str, Any] = {
        "at": now_ms,
        "outcome": result.outcome,
        "code": result.code,
        "enhanced": result.enhanced,
        "reply": result.reply,
        "phase": result.phase,
        "relay": result.relay,
    }
    insert = postgresql.insert if session.postgresql else sqlite.insert
    statement = insert(attempts).values(delivery_id=result.delivery, number=result.attempt, **values)
    # An attempt that was uncertain and is decided by its journal later keeps one row.
    session.execute(statement.on_conflict_do_update(index_elements=["delivery_id", "number"], set_=values))


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt whose outcome the database does not know; `relay` is the one that its sender spoke to."""

    delivery: int
    attempt: int
    batch: int
    state: DeliveryState
    relay: str


def open_attempts(session: Session, sender: int) -> list[OpenAttempt]:
    """The attempts of that sender which are attempting, or uncertain because nobody knew better."""
    statement = (
        sa.select(deliveries.c.id, deliveries.c.attempts, deliveries.c.batch_id, deliveries.c.state, senders.c.relay)
        .outerjoin(senders, senders.c.id == deliveries.c.sender_id)
        .where(
            deliveries.c.sender_id == sender,
            deliveries.c.state.in_((_ATTEMPTING, _UNCERTAIN)),
            # By the few batches that have such rows at all: `deliveries` has no index on its state or sender.
            deliveries.c.batch_id.in_(sa.select(batches.c.id).where(batches.c.attempting + batches.c.uncertain > 0)),
        )
    )
    return [
        OpenAttempt(row.id, row.attempts, row.batch_id, DeliveryState(row.state), row.relay)
        for row in session.execute(statement)
    ]


def attempting_count(session: Session, mailing: int, sender: int) -> int:
    """How many letters of the mailing that sender has gated and not settled."""
    there = sa.select(batches.c.id).where(batches.c.mailing_id == mailing, batches.c.attempting > 0)
    statement = (
        sa.select(sa.func.count())
        .select_from(deliveries)
        .where(
            deliveries.c.batch_id.in_(there),
            deliveries.c.state == _ATTEMPTING,
            deliveries.c.sender_id == sender,
        )
    )
    return int(session.scalar(statement))


def take_back(session: Session, batch: int, ids: Sequence[int], *, sender: int, now_ms: int) -> bool:
    """Make pending again what a gate whose commit nobody knows may have marked; nothing of it was written.

    Also where it was taken for uncertain since, because this host slept: then the batch may be closed, and is to be
    settled. Returns whether any of it was marked. No other run of that sender may be at work on the batch.
    """
    # The lost transaction may still be at work in the server: it holds the batch until its end.
    hold(session, batch)
    changes: Counter[DeliveryState] = Counter()
    for before in (DeliveryState.ATTEMPTING, DeliveryState.UNCERTAIN):
        statement = (
            deliveries.update()
            .where(
                deliveries.c.id.in_(ids),
                deliveries.c.batch_id == batch,
                deliveries.c.state == int(before),
                deliveries.c.sender_id == sender,
            )
            .values(state=sa.case((LEFT, int(DeliveryState.SKIPPED)), else_=int(DeliveryState.PENDING)), at=now_ms)
            .returning(deliveries.c.state)
        )
        for state in session.execute(statement).scalars():
            changes.update({before: -1, DeliveryState(state): 1})
    add_counts(session, batch, changes)
    return bool(changes)


def note(session: Session, delivery: int, attempt: int, *, code: int | None, enhanced: str | None, words: str) -> None:
    """Add to the evidence of an attempt what was found out about it later."""
    one = sa.and_(attempts.c.delivery_id == delivery, attempts.c.number == attempt)
    session.execute(attempts.update().where(one).values(code=code, enhanced=enhanced, reply=words))


def begun(session: Session, delivery: int) -> dt.datetime | None:
    """When the mailing of that delivery began to be sent, or was last set going by an operator."""
    of_it = sa.select(BEGUN).join(deliveries, deliveries.c.mailing_id == mailings.c.id)
    return loaded_or_none(session.scalar(of_it.where(deliveries.c.id == delivery)))


def failures(session: Session, delivery: int) -> list[tuple[int, str]]:
    """The attempts of the delivery that failed before, in order: when, in milliseconds, and what was said.

    None of one that is untried: what failed was before an operator had it begun anew.
    """
    told = sa.select(attempts.c.at, attempts.c.outcome).join(deliveries, deliveries.c.id == attempts.c.delivery_id)
    told = told.where(attempts.c.delivery_id == delivery, ~_UNTOLD).order_by(attempts.c.number)
    return [(row.at, row.outcome) for row in session.execute(told)]
