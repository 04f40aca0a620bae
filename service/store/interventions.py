"""What an operator's cancel and retry do to the deliveries of a mailing, with the counts of their batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from service.domain.delivery import DeliveryState, RetryReason, SkipReason
from service.domain.replies import ReplyClass
from service.store.batches import hold, hold_all, settle
from service.store.database import Session
from service.store.outcomes import LEFT
from service.store.providers import known_provider
from service.store.tables import COUNTED, batches, deliveries, subscribers

_S = DeliveryState
_WAITS = deliveries.c.state.in_((int(_S.PENDING), int(_S.DEFERRED)))


def cancel_rest(session: Session, mailing: int, *, now_ms: int) -> int:
    """Skip what is pending or deferred as cancelled; how many. What is being attempted is recorded as it ends."""
    return _change(session, mailing, which=_WAITS, state=_S.SKIPPED, reason=SkipReason.CANCELLED.value, now_ms=now_ms)


@dataclass(frozen=True, slots=True)
class Again:
    """Which deliveries a retry is for: those of these `reasons` (empty: all) and of that `provider` (None: any).

    `provider` is the name of a known one, or `other`. With those of chains that have been `added`, which left them
    without an edition before. Where `after_cancel` what waits counts as cancelled, which it will be before the retry.
    """

    reasons: frozenset[RetryReason] = frozenset()
    provider: str | None = None
    added: frozenset[str] = frozenset()
    after_cancel: bool = False


EVERY = Again()


def retry(session: Session, mailing: int, *, now_ms: int, which: Again = EVERY) -> int:
    """Make pending again what is deferred, expired, cancelled, refused by policy or of an `added` chain; how many.

    Never a hard refusal, a reader who left or was forgotten, or an uncertain delivery: that may have arrived.
    """
    return _change(session, mailing, which=_again(which), state=_S.PENDING, reason=None, now_ms=now_ms)


def give_edition(session: Session, mailing: int, added: Collection[str], *, now_ms: int) -> None:
    """Make pending again whom these chains left without an edition."""
    if added:
        _change(session, mailing, which=_left_without(added), state=_S.PENDING, reason=None, now_ms=now_ms)


def leave_uncertain(session: Session, mailing: int) -> None:
    """Have what is uncertain be cancelled if it comes back: a cancelled mailing is taken up for others alone."""
    _mark(session, mailing, deliveries.c.state == int(_S.UNCERTAIN), SkipReason.CANCELLED.value)


def take_back_uncertain(session: Session, mailing: int) -> None:
    """Undo `leave_uncertain`: the mailing is for everybody again, and what comes back is sent."""
    _mark(session, mailing, LEFT, ReplyClass.UNCERTAIN.value)


def _mark(session: Session, mailing: int, which: sa.ColumnElement[bool], reason: str) -> None:
    # By the few batches that have such rows at all, held before their deliveries, as everywhere.
    doubtful = sa.and_(batches.c.mailing_id == mailing, batches.c.uncertain > 0)
    hold_all(session, doubtful)
    there = deliveries.c.batch_id.in_(sa.select(batches.c.id).where(doubtful))
    session.execute(deliveries.update().where(there, which).values(reason=reason))


def left_out(session: Session, mailing: int) -> bool:
    """Whether a cancel has left somebody out."""
    state, reason = deliveries.c.state == int(_S.SKIPPED), deliveries.c.reason == SkipReason.CANCELLED.value
    return bool(session.scalar(sa.select(sa.exists().where(deliveries.c.mailing_id == mailing, state, reason))))


def under_way(session: Session, mailing: int) -> int:
    """How many letters of the mailing are being attempted."""
    attempting = sa.select(sa.func.coalesce(sa.func.sum(batches.c.attempting), 0))
    return int(session.scalar(attempting.where(batches.c.mailing_id == mailing)))


def chains_without_edition(session: Session, mailing: int) -> set[str]:
    """The chains that left readers without an edition."""
    statement = sa.select(batches.c.chain).distinct().where(batches.c.mailing_id == mailing, batches.c.skipped > 0)
    left = sa.exists().where(deliveries.c.batch_id == batches.c.id, _WITHOUT_EDITION)
    return set(session.execute(statement.where(left)).scalars())


def retryable(session: Session, mailing: int, which: Again = EVERY) -> int:
    """How many deliveries `retry` would make pending again."""
    statement = sa.select(sa.func.count()).where(deliveries.c.mailing_id == mailing, _again(which))
    return int(session.scalar(statement))


def chains_again(session: Session, mailing: int, which: Again = EVERY) -> set[str]:
    """The chains of the deliveries that `retry` would make pending again."""
    statement = sa.select(batches.c.chain).join(deliveries, deliveries.c.batch_id == batches.c.id).distinct()
    return set(session.execute(statement.where(deliveries.c.mailing_id == mailing, _again(which))).scalars())


def _again(which: Again) -> sa.ColumnElement[bool]:
    state, reason = deliveries.c.state, deliveries.c.reason
    cancelled = sa.and_(state == int(_S.SKIPPED), reason == SkipReason.CANCELLED.value)
    kinds = {
        RetryReason.DEFERRED: sa.false() if which.after_cancel else state == int(_S.DEFERRED),
        RetryReason.EXPIRED: state == int(_S.EXPIRED),
        RetryReason.CANCELLED: sa.or_(cancelled, _WAITS) if which.after_cancel else cancelled,
        RetryReason.POLICY: sa.and_(state == int(_S.REFUSED), reason == ReplyClass.POLICY.value),
    }
    meant = sa.or_(*(kinds[kind] for kind in RetryReason if not which.reasons or kind in which.reasons))
    if which.added:
        meant = sa.or_(meant, _left_without(which.added))
    # Whose reader was forgotten reaches nobody.
    wanted = sa.and_(deliveries.c.subscriber_id.is_not(None), meant)
    if which.provider is None:
        return wanted
    keeps = sa.exists().where(subscribers.c.id == deliveries.c.subscriber_id, known_provider(which.provider))
    return sa.and_(wanted, keeps)


_WITHOUT_EDITION = sa.and_(deliveries.c.state == int(_S.SKIPPED), deliveries.c.reason == SkipReason.NO_EDITION.value)


def _left_without(chains: Collection[str]) -> sa.ColumnElement[bool]:
    theirs = batches.alias()
    return sa.and_(
        _WITHOUT_EDITION, sa.exists().where(theirs.c.id == deliveries.c.batch_id, theirs.c.chain.in_(sorted(chains)))
    )


def _change(
    session: Session,
    mailing: int,
    *,
    which: sa.ColumnElement[bool],
    state: DeliveryState,
    reason: str | None,
    now_ms: int,
) -> int:
    # The batches before their deliveries, as the gate does: the other way round the two would deadlock.
    hold_all(session, batches.c.mailing_id == mailing)
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


def recount(session: Session, batch: int) -> None:
    """Count anew the deliveries of a batch that is held: after a change of many that is cheaper than differences."""
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
