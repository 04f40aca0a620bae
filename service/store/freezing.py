"""Freezing an audience: one INSERT … SELECT per slice of readers and chain, in random order, cut into batches."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from service.domain.delivery import DeliveryState, SkipReason
from service.domain.subscriber import SubscriberStatus
from service.store.database import Session
from service.store.instants import stored
from service.store.locks import serialise_batch_ids
from service.store.tables import batches, deliveries, mailing_audience, mailings, subscribers, suppressions

_ACTIVE = SubscriberStatus.ACTIVE.value
_SUPPRESSED = sa.exists().where(suppressions.c.address_hash == subscribers.c.address_hash)


def _within(low: bytes, high: bytes | None) -> sa.ColumnElement[bool]:
    condition = subscribers.c.id >= low
    return condition if high is None else sa.and_(condition, subscribers.c.id < high)


def _candidates(mailing: int, low: bytes, high: bytes | None, *, restricted: bool) -> sa.ColumnElement[bool]:
    within = _within(low, high)
    if not restricted:
        return within
    member = sa.exists().where(
        mailing_audience.c.mailing_id == mailing, mailing_audience.c.subscriber_id == subscribers.c.id
    )
    return sa.and_(within, member)


def candidate_count(session: Session) -> int:
    """All subscribers, whatever their state: how many slices a mailing needs is judged by this."""
    return int(session.scalar(sa.select(sa.func.count()).select_from(subscribers)))


def chains_with_readers(
    session: Session, mailing: int, low: bytes, high: bytes | None, *, restricted: bool
) -> list[str]:
    """The chains of the active readers of a slice, in order."""
    statement = (
        sa.select(subscribers.c.chain)
        .where(_candidates(mailing, low, high, restricted=restricted), subscribers.c.status == _ACTIVE)
        .distinct()
        .order_by(subscribers.c.chain)
    )
    return list(session.execute(statement).scalars())


def freeze_slice(
    session: Session,
    mailing: int,
    low: bytes,
    high: bytes | None,
    renditions: Mapping[str, int | None],
    *,
    restricted: bool,
    batch_size: int,
    now: dt.datetime,
) -> None:
    """Make the deliveries and batches of one slice, and count those left out, by reason.

    A chain without a rendition (None) has no edition: its readers are planned and skipped at once, with that reason.
    """
    serialise_batch_ids(session)
    candidates = _candidates(mailing, low, high, restricted=restricted)
    for chain, rendition in renditions.items():
        first = int(session.scalar(sa.select(sa.func.coalesce(sa.func.max(batches.c.id), 0)))) + 1
        state = DeliveryState.PENDING if rendition is not None else DeliveryState.SKIPPED
        number = sa.func.row_number(type_=sa.BigInteger).over(order_by=sa.func.random()) - 1
        chosen = sa.select(
            sa.literal(mailing),
            subscribers.c.id,
            first + number // batch_size,
            sa.literal(int(state)),
            sa.literal(0),
            sa.literal(None if rendition is not None else SkipReason.NO_EDITION.value, sa.String()),
            sa.literal(stored(now)),
        ).where(candidates, subscribers.c.status == _ACTIVE, subscribers.c.chain == chain, ~_SUPPRESSED)
        columns = ["mailing_id", "subscriber_id", "batch_id", "state", "attempts", "reason", "at"]
        session.execute(deliveries.insert().from_select(columns, chosen))
        _make_batches(session, mailing, chain, rendition, first)
    _count_excluded(session, mailing, candidates)


def _make_batches(session: Session, mailing: int, chain: str, rendition: int | None, first: int) -> None:
    pending: sa.ColumnElement[int] = sa.func.count()
    skipped: sa.ColumnElement[int] = sa.literal(0)
    if rendition is None:
        pending, skipped = skipped, pending
    values: list[sa.ColumnElement[Any]] = [
        deliveries.c.batch_id,
        sa.literal(mailing),
        sa.literal(chain),
        sa.literal(rendition, sa.Integer),
        sa.literal(rendition is not None),
        pending,
        skipped,
    ]
    cut = sa.select(*values).where(deliveries.c.batch_id >= first).group_by(deliveries.c.batch_id)
    columns = ["id", "mailing_id", "chain", "rendition_id", "open", "pending", "skipped"]
    session.execute(batches.insert().from_select(columns, cut))


def _count_excluded(session: Session, mailing: int, candidates: sa.ColumnElement[bool]) -> None:
    reason = sa.case((subscribers.c.status == _ACTIVE, sa.literal("suppressed")), else_=subscribers.c.status)
    left_out = sa.or_(subscribers.c.status != _ACTIVE, _SUPPRESSED)
    statement = (
        sa.select(reason.label("reason"), sa.func.count().label("readers")).where(candidates, left_out).group_by(reason)
    )
    found = {row.reason: row.readers for row in session.execute(statement)}
    excluded = dict(session.scalar(sa.select(mailings.c.excluded).where(mailings.c.id == mailing)))
    for name, count in found.items():
        excluded[name] = excluded.get(name, 0) + count
    session.execute(mailings.update().where(mailings.c.id == mailing).values(excluded=excluded))


def slices_done(session: Session, mailing: int, *, slices: int, done: int) -> None:
    """Remember how far the freezing is, in the same transaction as the slice itself."""
    statement = mailings.update().where(mailings.c.id == mailing)
    session.execute(statement.values(slices=slices, planned_slices=done))
