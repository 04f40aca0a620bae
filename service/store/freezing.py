"""Freezing an audience: a slice of readers is read once, in one statement, and cut into batches in the order of ids.

Ids are random, so a batch is of readers of everywhere; and neighbours in the index of deliveries are inserted one
after the other, which PostgreSQL does in two thirds of the time. A batch is of one provider, or of all that have none
of their own: so a slow one holds up its own letters alone.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.domain.delivery import DeliveryState, SkipReason
from service.domain.providers import KNOWN
from service.domain.subscriber import SubscriberStatus
from service.store.database import Session
from service.store.instants import stored
from service.store.locks import serialise_batch_ids
from service.store.readers import EDITION, day_of
from service.store.tables import COUNTED, Id16, batches, deliveries, mailing_audience, mailings, subscribers

# So many readers of a provider have batches of their own, or a quarter of a batch where that is less; but never fewer
# than the second: they stay in the batches of all.
_ENOUGH_READERS, _FEWEST_READERS = 250, 50

# What one statement saw of a slice: whatever is cut and counted is taken from here, so that the numbers agree while
# readers come and go. And readers lie in no order, so that a slice is all over their table: it is gone through once.
_TAKE = f"""
    CREATE TEMPORARY TABLE slice_readers AS
    SELECT id, {EDITION} AS edition, CASE WHEN provider IN :known THEN provider ELSE '' END AS provider,
        CASE WHEN status <> :active THEN status
             WHEN EXISTS (SELECT 1 FROM suppressions x WHERE x.address_hash = subscribers.address_hash)
                 THEN 'suppressed'
             WHEN coalesce(paused_until, '') > :today THEN '{SkipReason.PAUSED.value}'
        END AS left_out
    FROM subscribers
    WHERE id >= :low
    """  # noqa: S608  # made of the module's own words
_BELOW = " AND id < :high"
_CHOSEN = """ AND EXISTS (
        SELECT 1 FROM mailing_audience a WHERE a.mailing_id = :mailing AND a.subscriber_id = subscribers.id
    )"""
_DROP = sa.text("DROP TABLE slice_readers")
_readers = sa.table(
    "slice_readers",
    sa.column("id", Id16),
    sa.column("edition", sa.String),
    sa.column("provider", sa.String),
    sa.column("left_out", sa.String),
).c
_COUNT = sa.select(_readers.edition, _readers.provider, _readers.left_out, sa.func.count().label("readers")).group_by(
    _readers.edition, _readers.provider, _readers.left_out
)


@dataclass(frozen=True, slots=True)
class Slice:
    """How many readers are to be mailed, by edition and known provider ("" = any other), and are not, by the reason."""

    mailable: Mapping[str, Mapping[str, int]]
    excluded: Mapping[str, int]

    @property
    def readers(self) -> int:
        """How many are to be mailed."""
        return sum(sum(by_provider.values()) for by_provider in self.mailable.values())


def candidate_count(session: Session) -> int:
    """All subscribers, whatever their state: how many slices a mailing needs is judged by this."""
    return int(session.scalar(sa.select(sa.func.count()).select_from(subscribers)))


def chains_with_readers(session: Session, mailing: int, *, restricted: bool) -> list[str]:
    """The keys of the editions that the active readers get, in order (`domain.chains.edition_key`)."""
    statement = sa.select(EDITION).where(subscribers.c.status == SubscriberStatus.ACTIVE.value)
    if restricted:
        member = sa.and_(mailing_audience.c.mailing_id == mailing, mailing_audience.c.subscriber_id == subscribers.c.id)
        statement = statement.where(sa.exists().where(member))
    return sorted(session.execute(statement.distinct()).scalars())


def take_slice(
    session: Session, mailing: int, low: bytes, high: bytes | None, *, restricted: bool, now: dt.datetime
) -> Slice:
    """Look at the readers from `low` up to `high` once; what is inserted in this transaction is about them."""
    text = _TAKE + (_BELOW if high is not None else "") + (_CHOSEN if restricted else "")
    statement = sa.text(text).bindparams(sa.bindparam("known", sorted(KNOWN), expanding=True))
    values: dict[str, Any] = {"active": SubscriberStatus.ACTIVE.value, "low": low, "today": day_of(stored(now))}
    if high is not None:
        values["high"] = high
    if restricted:
        values["mailing"] = mailing
    session.execute(statement, values)
    mailable: dict[str, dict[str, int]] = {}
    excluded: dict[str, int] = {}
    for row in session.execute(_COUNT):
        if row.left_out is None:
            mailable.setdefault(row.edition, {})[row.provider] = row.readers
        else:
            excluded[row.left_out] = excluded.get(row.left_out, 0) + row.readers
    return Slice(mailable, excluded)


@dataclass(frozen=True, slots=True)
class Cut:
    """A slice cut into batches that have their numbers; `reserved` is the last of these where its row keeps them."""

    parts: Sequence[_Part]
    batch_size: int
    reserved: int | None = None


def number_batches(
    session: Session, mailing: int, taken: Slice, renditions: Mapping[str, int | None], *, batch_size: int, beside: bool
) -> Cut:
    """Cut a slice into batches, and give them numbers that nobody else gives out.

    The readers of a known provider have batches of their own where there are enough of them. A chain without a
    rendition (None) has no edition: its readers are planned and skipped at once, with that reason.

    Others may number batches again when this transaction ends. If that is before the batches are there (`beside` the
    slice's own), an empty, closed batch of the last number is left: whoever looks for the highest number finds it.
    """
    serialise_batch_ids(session)
    first = int(session.scalar(sa.select(sa.func.coalesce(sa.func.max(batches.c.id), 0)))) + 1
    parts = list(_parts(taken.mailable, renditions, first, batch_size))
    if not beside or not parts:
        return Cut(parts, batch_size)
    last = parts[-1].last(batch_size)
    values = {"id": last, "mailing_id": mailing, "chain": parts[-1].chain, "rendition_id": None, "open": False}
    session.execute(batches.insert().values(**values))
    return Cut(parts, batch_size, last)


def forget_numbers(session: Session, mailing: int) -> None:
    """Take away what `number_batches` left where the slice itself was never committed."""
    empty = sa.and_(*(batches.c[name] == 0 for name in COUNTED))
    unused = sa.and_(~batches.c.open, batches.c.rendition_id.is_(None), batches.c.fence == 0, empty)
    session.execute(batches.delete().where(batches.c.mailing_id == mailing, unused))


def insert_deliveries(session: Session, mailing: int, cut: Cut, now: dt.datetime) -> None:
    """Make the deliveries of the slice that was taken; they are in its batches, which `insert_batches` makes."""
    if cut.parts:
        _insert_deliveries(session, mailing, cut.parts, cut.batch_size, now)
    session.execute(_DROP)


def insert_batches(session: Session, mailing: int, taken: Slice, cut: Cut) -> None:
    """Make the batches of the slice, and add those left out to the mailing, by reason.

    Where numbers were kept for it, the mailing must be locked: it comes before its batches, everywhere.
    """
    if cut.reserved is not None:
        session.execute(batches.delete().where(batches.c.id == cut.reserved))
    if cut.parts:
        session.execute(batches.insert(), [row for part in cut.parts for row in part.rows(mailing, cut.batch_size)])
    _add_excluded(session, mailing, taken.excluded)


@dataclass(frozen=True, slots=True)
class _Part:
    """The batches of one chain and provider ("" = all that have none of their own), numbered from `first`."""

    chain: str
    provider: str
    rendition: int | None
    readers: int
    first: int

    def last(self, batch_size: int) -> int:
        """The number of its last batch."""
        return self.first + math.ceil(self.readers / batch_size) - 1

    def rows(self, mailing: int, batch_size: int) -> Iterator[dict[str, Any]]:
        """The rows of its batches, each full but the last."""
        for number in range(math.ceil(self.readers / batch_size)):
            readers = min(batch_size, self.readers - number * batch_size)
            planned = self.rendition is not None
            yield {
                "id": self.first + number,
                "mailing_id": mailing,
                "chain": self.chain,
                "rendition_id": self.rendition,
                "open": planned,
                "provider": self.provider,
                "pending": readers if planned else 0,
                "skipped": 0 if planned else readers,
            }


def _parts(
    mailable: Mapping[str, Mapping[str, int]], renditions: Mapping[str, int | None], first: int, batch_size: int
) -> Iterator[_Part]:
    """Who shares batches. The last part of a chain is of all providers without batches of their own."""
    for chain, readers in sorted(mailable.items()):
        rendition = renditions[chain]
        enough = max(_FEWEST_READERS, min(_ENOUGH_READERS, batch_size // 4))
        rest = 0
        for provider, count in sorted(readers.items()):
            # Small batches cost more a letter than large ones, and the wire keeps providers apart in a mixed one, too.
            if provider and rendition is not None and count >= enough:
                yield _Part(chain, provider, rendition, count, first)
                first += math.ceil(count / batch_size)
            else:
                rest += count
        if rest:
            yield _Part(chain, "", rendition, rest, first)
            first += math.ceil(rest / batch_size)


def _insert_deliveries(
    session: Session, mailing: int, parts: Sequence[_Part], batch_size: int, now: dt.datetime
) -> None:
    """A delivery of each reader who is to be mailed, in the order of their ids among those of the same part."""
    part = _first_batch(parts)
    place = sa.func.row_number(type_=sa.BigInteger).over(partition_by=part, order_by=_readers.id) - 1
    no_edition = _readers.edition.in_(sorted({one.chain for one in parts if one.rendition is None}))
    rows = sa.select(
        sa.literal(mailing),
        _readers.id,
        part + place // batch_size,
        sa.case((no_edition, int(DeliveryState.SKIPPED)), else_=int(DeliveryState.PENDING)),
        sa.literal(0),
        sa.case((no_edition, SkipReason.NO_EDITION.value)),
        sa.literal(stored(now)),
    ).where(_readers.left_out.is_(None))
    columns = ["mailing_id", "subscriber_id", "batch_id", "state", "attempts", "reason", "at"]
    session.execute(deliveries.insert().from_select(columns, rows))


def _first_batch(parts: Sequence[_Part]) -> sa.ColumnElement[int]:
    """The number of the first batch of the part that a reader is in."""
    of_chain: dict[str, dict[str, int]] = {}
    for part in parts:
        of_chain.setdefault(part.chain, {})[part.provider] = part.first
    firsts: dict[str, sa.ColumnElement[int]] = {}
    for chain, numbers in of_chain.items():
        rest = sa.literal(numbers.pop("", None), sa.BigInteger)
        firsts[chain] = sa.case(numbers, value=_readers.provider, else_=rest) if numbers else rest
    return sa.case(firsts, value=_readers.edition)


def _add_excluded(session: Session, mailing: int, found: Mapping[str, int]) -> None:
    excluded = dict(session.scalar(sa.select(mailings.c.excluded).where(mailings.c.id == mailing)))
    for reason, readers in found.items():
        excluded[reason] = excluded.get(reason, 0) + readers
    session.execute(mailings.update().where(mailings.c.id == mailing).values(excluded=excluded))


def slices_done(session: Session, mailing: int, *, slices: int, done: int) -> None:
    """Remember how far the freezing is, in the same transaction as the slice itself."""
    statement = mailings.update().where(mailings.c.id == mailing)
    session.execute(statement.values(slices=slices, planned_slices=done))
