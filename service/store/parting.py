"""Deliveries that leave their batch for another: of readers who chose otherwise since, or whose provider is busy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from service.domain.batching import LARGEST_BATCH
from service.domain.delivery import DeliveryState
from service.store.batches import Claim, add_counts, hold
from service.store.database import Session
from service.store.instants import database_now
from service.store.locks import serialise_batch_ids
from service.store.tables import batches, deliveries, subscribers


def move_readers(session: Session, claimed: Claim, moves: Mapping[str, Sequence[int]]) -> None:
    """Put pending deliveries into new batches of the chains their readers chose since; `moves` is by chain."""
    serialise_batch_ids(session)
    for chain, ids in moves.items():
        number = _next_id(session)
        _open(session, claimed, number, chain=chain, rendition=None, provider=claimed.provider, pending=len(ids))
        session.execute(deliveries.update().where(deliveries.c.id.in_(ids)).values(batch_id=number))
        add_counts(session, claimed.batch, {DeliveryState.PENDING: -len(ids)})


def part_off(session: Session, claimed: Claim, by_provider: Mapping[str, Sequence[int]]) -> None:
    """Put pending deliveries of a mixed batch into batches of one provider each, so that the mixed one can end.

    Into one that waits already, where there is one, so that a slow domain has no more batches than it needs.
    """
    hold(session, claimed.batch)
    serialise_batch_ids(session)
    for provider, ids in sorted(by_provider.items()):
        number = _waiting_batch(session, claimed, provider) or _next_id(session)
        same = sa.and_(deliveries.c.id.in_(ids), deliveries.c.batch_id == claimed.batch)
        pending = sa.and_(same, deliveries.c.state == int(DeliveryState.PENDING))
        moved = session.execute(deliveries.update().where(pending).values(batch_id=number)).rowcount
        add_counts(session, claimed.batch, {DeliveryState.PENDING: -moved})
        into = batches.update().where(batches.c.id == number)
        grown = {"pending": batches.c.pending + moved, "open": True, "due_at": 0, "rung_at": 0}
        if session.execute(into.values(grown)).rowcount or not moved:
            continue
        _open(
            session, claimed, number, chain=claimed.chain, rendition=claimed.rendition, provider=provider, pending=moved
        )


def _open(
    session: Session, claimed: Claim, number: int, *, chain: str, rendition: int | None, provider: str, pending: int
) -> None:
    values = {"chain": chain, "rendition_id": rendition, "provider": provider, "pending": pending}
    session.execute(batches.insert().values(id=number, mailing_id=claimed.mailing, open=True, **values))


def _waiting_batch(session: Session, claimed: Claim, provider: str) -> int | None:
    """A batch of that provider that nobody holds and that has room; a later one, as locks are taken in order."""
    statement = (
        sa.select(batches.c.id)
        .where(
            batches.c.mailing_id == claimed.mailing,
            batches.c.open,
            batches.c.chain == claimed.chain,
            batches.c.provider == provider,
            batches.c.rendition_id == claimed.rendition,
            batches.c.id > claimed.batch,
            batches.c.lease_until <= database_now(postgresql=session.postgresql),
            batches.c.pending + batches.c.deferred < LARGEST_BATCH // 2,
        )
        .order_by(batches.c.id)
        .limit(1)
    )
    if session.postgresql:
        statement = statement.with_for_update(skip_locked=True)
    found = session.scalar(statement)
    return None if found is None else int(found)


def _next_id(session: Session) -> int:
    return int(session.scalar(sa.select(sa.func.max(batches.c.id)))) + 1


def of_providers(session: Session, claimed: Claim, providers: Collection[str]) -> dict[str, list[int]]:
    """The pending deliveries of the batch whose readers have one of these providers."""
    statement = (
        sa.select(subscribers.c.provider, deliveries.c.id)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber_id)
        .where(
            deliveries.c.batch_id == claimed.batch,
            deliveries.c.state == int(DeliveryState.PENDING),
            subscribers.c.provider.in_(sorted(providers)),
        )
    )
    found: dict[str, list[int]] = {}
    for row in session.execute(statement):
        found.setdefault(row.provider, []).append(row.id)
    return found
