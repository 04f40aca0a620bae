"""Freezing an audience: one INSERT … SELECT per slice of readers and chain, in random order, cut into batches.

A batch is of one provider, or of all that have none of their own: so a slow one holds up its own letters alone.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.domain.delivery import DeliveryState, SkipReason
from service.domain.providers import KNOWN
from service.domain.subscriber import SubscriberStatus
from service.store.database import Session
from service.store.instants import stored
from service.store.locks import serialise_batch_ids
from service.store.readers import EDITION, day_of, paused
from service.store.tables import batches, deliveries, mailing_audience, mailings, subscribers, suppressions

# Below this a provider's readers stay in the batches of all.
_FEWEST_READERS = 50

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
    """The keys of the editions that the active readers of a slice get, in order (`domain.chains.edition_key`)."""
    statement = (
        sa.select(EDITION.label("edition"))
        .where(_candidates(mailing, low, high, restricted=restricted), subscribers.c.status == _ACTIVE)
        .distinct()
        .order_by("edition")
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

    The readers of a known provider have batches of their own where there are enough of them. A chain without a
    rendition (None) has no edition: its readers are planned and skipped at once,
    with that reason.
    """
    serialise_batch_ids(session)
    candidates = _candidates(mailing, low, high, restricted=restricted)
    pausing = paused(day_of(stored(now)))
    mailable = sa.and_(candidates, subscribers.c.status == _ACTIVE, ~_SUPPRESSED, ~pausing)
    readers = _readers_of_providers(session, mailable)
    for chain, rendition in renditions.items():
        chosen = sa.and_(mailable, EDITION.in_([chain]))
        first = int(session.scalar(sa.select(sa.func.coalesce(sa.func.max(batches.c.id), 0)))) + 1
        parts = [] if rendition is None else _parts(readers.get(chain, {}), first, batch_size)
        batch = _batch_number(parts, first, batch_size)
        state = DeliveryState.PENDING if rendition is not None else DeliveryState.SKIPPED
        rows = sa.select(
            sa.literal(mailing),
            subscribers.c.id,
            batch,
            sa.literal(int(state)),
            sa.literal(0),
            sa.literal(None if rendition is not None else SkipReason.NO_EDITION.value, sa.String()),
            sa.literal(stored(now)),
        ).where(chosen)
        columns = ["mailing_id", "subscriber_id", "batch_id", "state", "attempts", "reason", "at"]
        session.execute(deliveries.insert().from_select(columns, rows))
        _make_batches(session, mailing, chain, rendition, first=first, parts=parts)
    _count_excluded(session, mailing, candidates, pausing)


@dataclass(frozen=True, slots=True)
class _Part:
    """The batches of one provider: they are numbered from `first`; what comes from `end` on is not of it."""

    provider: str
    first: int
    end: int


def _readers_of_providers(session: Session, mailable: sa.ColumnElement[bool]) -> dict[str, dict[str, int]]:
    """How many of these readers each known provider has, by chain; in one reading of the slice."""
    statement = (
        sa.select(EDITION.label("edition"), subscribers.c.provider, sa.func.count().label("readers"))
        .where(mailable, subscribers.c.provider.in_(sorted(KNOWN)))
        .group_by("edition", subscribers.c.provider)
    )
    found: dict[str, dict[str, int]] = {}
    for row in session.execute(statement):
        found.setdefault(row.edition, {})[row.provider] = row.readers
    return found


def _parts(readers: Mapping[str, int], first: int, batch_size: int) -> list[_Part]:
    """The providers that have enough readers here for batches of their own, with the numbers of these."""
    parts: list[_Part] = []
    for provider, count in sorted(readers.items()):
        # Small batches cost more a letter than large ones, and the wire keeps providers apart in a mixed one, too.
        if count >= max(_FEWEST_READERS, batch_size // 4):
            end = first + math.ceil(count / batch_size)
            parts.append(_Part(provider, first, end))
            first = end
    return parts


def _batch_number(parts: Sequence[_Part], first: int, batch_size: int) -> sa.ColumnElement[int]:
    """In which batch a reader is, in random order among those of the same provider or, last, of all the others."""
    if not parts:
        place = sa.func.row_number(type_=sa.BigInteger).over(order_by=sa.func.random()) - 1
        return first + place // batch_size
    numbers = {part.provider: part.first for part in parts}
    base = sa.case(numbers, value=subscribers.c.provider, else_=parts[-1].end)
    place = sa.func.row_number(type_=sa.BigInteger).over(partition_by=base, order_by=sa.func.random()) - 1
    return base + place // batch_size


def _make_batches(
    session: Session, mailing: int, chain: str, rendition: int | None, *, first: int, parts: Sequence[_Part]
) -> None:
    pending: sa.ColumnElement[int] = sa.func.count()
    skipped: sa.ColumnElement[int] = sa.literal(0)
    if rendition is None:
        pending, skipped = skipped, pending
    provider: sa.ColumnElement[str] = sa.literal("")
    if parts:
        provider = sa.case(*((deliveries.c.batch_id < part.end, part.provider) for part in parts), else_="")
    values: list[sa.ColumnElement[Any]] = [
        deliveries.c.batch_id,
        sa.literal(mailing),
        sa.literal(chain),
        sa.literal(rendition, sa.Integer),
        sa.literal(rendition is not None),
        provider,
        pending,
        skipped,
    ]
    cut = sa.select(*values).where(deliveries.c.batch_id >= first).group_by(deliveries.c.batch_id)
    columns = ["id", "mailing_id", "chain", "rendition_id", "open", "provider", "pending", "skipped"]
    session.execute(batches.insert().from_select(columns, cut))


def _count_excluded(
    session: Session, mailing: int, candidates: sa.ColumnElement[bool], pausing: sa.ColumnElement[bool]
) -> None:
    reason = sa.case(
        (subscribers.c.status != _ACTIVE, subscribers.c.status),
        (_SUPPRESSED, "suppressed"),
        else_=SkipReason.PAUSED.value,
    )
    left_out = sa.or_(subscribers.c.status != _ACTIVE, _SUPPRESSED, pausing)
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
