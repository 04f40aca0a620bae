"""What an operator's cancel and retry do to the deliveries of a mailing, with the counts of their batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from service.domain.delivery import DeliveryState, RetryReason, SkipReason
from service.domain.replies import ReplyClass
from service.store.batches import hold, settle
from service.store.database import Session
from service.store.providers import known_provider
from service.store.tables import COUNTED, batches, deliveries, subscribers

_S = DeliveryState


def cancel_rest(session: Session, mailing: int, *, now_ms: int) -> int:
    """Skip what is pending or deferred as cancelled; how many. What is being attempted is recorded as it ends."""
    waiting = deliveries.c.state.in_((int(_S.PENDING), int(_S.DEFERRED)))
    return _change(session, mailing, which=waiting, state=_S.SKIPPED, reason=SkipReason.CANCELLED.value, now_ms=now_ms)


@dataclass(frozen=True, slots=True)
class Again:
    """Which deliveries a retry is for: those of these `reasons` (empty: all) and of that `provider` (None: any).

    `provider` is the name of a known one, or `other`.
    """

    reasons: frozenset[RetryReason] = frozenset()
    provider: str | None = None


EVERY = Again()


def retry(session: Session, mailing: int, *, now_ms: int, which: Again = EVERY) -> int:
    """Make pending again what is deferred, expired, cancelled or refused by policy; how many.

    Never a hard refusal, a reader who left, or an uncertain delivery: that may have arrived.
    """
    return _change(session, mailing, which=_again(which), state=_S.PENDING, reason=None, now_ms=now_ms)


def retryable(session: Session, mailing: int, which: Again = EVERY) -> int:
    """How many deliveries `retry` would make pending again."""
    statement = sa.select(sa.func.count()).where(deliveries.c.mailing_id == mailing, _again(which))
    return int(session.scalar(statement))


def _again(which: Again) -> sa.ColumnElement[bool]:
    state, reason = deliveries.c.state, deliveries.c.reason
    kinds = {
        RetryReason.DEFERRED: state == int(_S.DEFERRED),
        RetryReason.EXPIRED: state == int(_S.EXPIRED),
        RetryReason.CANCELLED: sa.and_(state == int(_S.SKIPPED), reason == SkipReason.CANCELLED.value),
        RetryReason.POLICY: sa.and_(state == int(_S.REFUSED), reason == ReplyClass.POLICY.value),
    }
    wanted = sa.or_(*(kinds[kind] for kind in RetryReason if not which.reasons or kind in which.reasons))
    if which.provider is None:
        return wanted
    keeps = sa.exists().where(subscribers.c.id == deliveries.c.subscriber_id, known_provider(which.provider))
    return sa.and_(wanted, keeps)


def _change(
    session: Session,
    mailing: int,
    *,
    which: sa.ColumnElement[bool],
    state: DeliveryState,
    reason: str | None,
    now_ms: int,
) -> int:
    _hold_batches(session, mailing)
    statement = (
        deliveries.update()
        .where(deliveries.c.mailing_id == mailing, which)
        .values(state=int(state), reason=reason, due_at=None, at=now_ms)
        .returning(deliveries.c.batch_id)
    )
    touched = list(session.execute(statement).scalars())
    changed = sorted(set(touched))
    for batch in changed:
        recount(session, batch)
    settle(session, changed)
    return len(touched)


def _hold_batches(session: Session, mailing: int) -> None:
    """Lock the batches before their deliveries, as the gate does: the other way round the two would deadlock."""
    if session.postgresql:
        held = sa.select(batches.c.id).where(batches.c.mailing_id == mailing).order_by(batches.c.id)
        session.execute(held.with_for_update()).all()


def recount(session: Session, batch: int) -> None:
    """Count the batch's deliveries anew: after a change of many at once that is cheaper than differences."""
    statement = (
        sa.select(deliveries.c.state, sa.func.count().label("readers"))
        .where(deliveries.c.batch_id == batch)
        .group_by(deliveries.c.state)
    )
    found = {DeliveryState(row.state).label: row.readers for row in session.execute(statement)}
    values = {name: found.get(name, 0) for name in COUNTED}
    session.execute(batches.update().where(batches.c.id == batch).values(values))


def miscounted(session: Session, mailing: int) -> list[int]:
    """The batches whose counts are not those of their deliveries; none, unless something is wrong.

    One statement, so that it may run while letters are sent: it reads each delivery of the mailing.
    """
    number = {name: DeliveryState[name.upper()] for name in COUNTED}
    sums = [sa.func.count().filter(deliveries.c.state == int(state)).label(name) for name, state in number.items()]
    of_mailing = sa.select(deliveries.c.batch_id, *sums).where(deliveries.c.mailing_id == mailing)
    found = of_mailing.group_by(deliveries.c.batch_id).subquery()
    differs = sa.or_(*(batches.c[name] != sa.func.coalesce(found.c[name], 0) for name in COUNTED))
    statement = sa.select(batches.c.id).outerjoin(found, found.c.batch_id == batches.c.id)
    statement = statement.where(batches.c.mailing_id == mailing, differs).order_by(batches.c.id)
    return list(session.execute(statement).scalars())


def count_anew(session: Session, wrong: Sequence[int]) -> None:
    """Give these batches the counts of their deliveries, and open those that have letters to send after all."""
    for batch in wrong:
        hold(session, batch)
        recount(session, batch)
    settle(session, wrong)
