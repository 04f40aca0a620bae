"""The send gate: in one transaction, what was read of the readers is true, marked as ambiguous, and handed out.

Nothing that was read earlier is mailed: the gate itself returns the addresses. PostgreSQL does it in one statement,
which takes acceptances of the same batch with it; SQLite has one writer, so there the same rules hold between its
statements.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from service.domain.delivery import DeliveryState, Hindrance, SkipReason
from service.domain.mailing import MailingState
from service.domain.subscriber import SubscriberStatus
from service.store.arrays import array_literal
from service.store.batches import Claim, add_counts, hold
from service.store.database import Database, Session
from service.store.errors import SpoiledAddressError, UnknownKeyError
from service.store.instants import database_now
from service.store.parting import move_readers
from service.store.readers import EDITION, day_of, paused
from service.store.sealing import Sealer
from service.store.tables import batches, deliveries, mailings, subscribers, suppressions

_PENDING, _ATTEMPTING = int(DeliveryState.PENDING), int(DeliveryState.ATTEMPTING)


# One for every letter: a named tuple is made in a third of the time of a frozen dataclass.
# Reasons of letters that no relay was asked about.
_NOT_ASKED = frozenset(Hindrance)


class Recipient(NamedTuple):
    """One reader who has passed the gate; the address is as it was typed, and empty where it cannot be opened.

    `untried` says that no relay has refused or delayed the letter before, however often it was gated.
    """

    delivery: int
    attempt: int
    subscriber: bytes
    epoch: int
    address: str
    untried: bool = True

    def __repr__(self) -> str:
        return f"Recipient(delivery={self.delivery}, attempt={self.attempt})"


@dataclass(frozen=True, slots=True)
class Gated:
    """What the gate let through, and the mailing's own rate at that moment (mails per second, None = unset).

    `locked` are those among them whose address has a key that this process does not have, and cannot be mailed by it.
    """

    recipients: list[Recipient]
    rate: float | None
    locked: list[Recipient] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PassedAlone:
    """As `Gated`; whether all acceptances were recorded; and who is `missing`, to be sorted out.

    Acceptances of another batch are not recorded, nor those of a letter that was taken to be uncertain: they are to be
    recorded as any outcome is.
    """

    gated: Gated
    all_recorded: bool
    missing: set[int]


@dataclass(frozen=True, slots=True)
class Acceptances:
    """Deliveries that were accepted, all at their attempt of this number."""

    attempt: int
    deliveries: Sequence[int]


_NONE_ACCEPTED = Acceptances(0, ())

# One statement cannot change a row twice, so the batch's counts of both parts are changed together. Letters that are
# accepted and letters that are gated are never the same ones: those are attempting, these pending.
_POSTGRESQL_GATE = """
    WITH held AS (
        SELECT b.id, b.chain, m.rate FROM batches b JOIN mailings m ON m.id = b.mailing_id
        WHERE b.id = %(batch)s AND b.fence = %(fence)s AND m.state = 'sending'
          AND b.lease_until > (extract(epoch FROM clock_timestamp()) * 1000)::bigint
        FOR UPDATE OF b
    ), marked AS (
        UPDATE deliveries d SET state = 2, at = %(now)s, reason = NULL
        FROM held
        WHERE d.id = ANY(CAST(%(accepted)s AS bigint[])) AND d.attempts = %(attempt)s AND d.state = 1
          AND d.batch_id = held.id
        RETURNING d.id
    ), gated AS (
        UPDATE deliveries d SET state = 1, attempts = d.attempts + 1, sender_id = %(sender)s, at = %(now)s,
            epoch = NULLIF(s.epoch, 0)
        FROM held, subscribers s
        WHERE d.id = ANY(CAST(%(ids)s AS bigint[])) AND d.batch_id = held.id AND d.state = 0
          AND s.id = d.subscriber_id AND s.status = 'active' AND (s.paused_until IS NULL OR s.paused_until <= %(today)s)
          AND s.chain || CASE WHEN s.text_only THEN '+text' ELSE '' END = held.chain
          AND NOT EXISTS (SELECT 1 FROM suppressions x WHERE x.address_hash = s.address_hash)
        RETURNING d.id, d.attempts, s.id AS subscriber, s.epoch, s.sealed, d.reason
    ), counted AS (
        UPDATE batches b SET
            lease_until = (extract(epoch FROM clock_timestamp()) * 1000)::bigint + %(lease)s,
            pending = b.pending - g.letters, attempting = b.attempting + g.letters - a.letters,
            accepted = b.accepted + a.letters
        FROM held, (SELECT count(*) AS letters FROM gated) g, (SELECT count(*) AS letters FROM marked) a
        WHERE b.id = held.id
        RETURNING a.letters
    )
    SELECT held.rate, counted.letters, gated.id, gated.attempts, gated.subscriber, gated.epoch, gated.sealed,
        gated.reason
    FROM held CROSS JOIN counted LEFT JOIN gated ON true
    """


def _holding(*, postgresql: bool) -> sa.Select[tuple[str, float]]:
    return (
        sa.select(batches.c.chain, mailings.c.rate)
        .join(mailings, mailings.c.id == batches.c.mailing_id)
        .where(
            batches.c.id == sa.bindparam("batch"),
            batches.c.fence == sa.bindparam("fence"),
            batches.c.lease_until > database_now(postgresql=postgresql),
            mailings.c.state == MailingState.SENDING.value,
        )
    )


_SQLITE_HELD, _POSTGRESQL_HELD = _holding(postgresql=False), _holding(postgresql=True)

# CROSS JOIN fixes the order (sqlite.org/optoverview.html#crossjoin). By itself SQLite goes through the whole batch, and
# for each of its letters through the list: 58 µs a letter instead of 2.
_SQLITE_ELIGIBLE = sa.text(
    """
    SELECT NULL, 0, d.id, d.attempts + 1 AS attempts, s.id AS subscriber, s.epoch, s.sealed, d.reason
    FROM json_each(:ids) wanted
    CROSS JOIN deliveries d ON d.id = wanted.value
    CROSS JOIN subscribers s ON s.id = d.subscriber_id
    WHERE d.batch_id = :batch AND d.state = 0 AND s.status = 'active'
      AND (s.paused_until IS NULL OR s.paused_until <= :today)
      AND s.chain || CASE WHEN s.text_only THEN '+text' ELSE '' END = :chain
      AND NOT EXISTS (SELECT 1 FROM suppressions x WHERE x.address_hash = s.address_hash)
    """
)

_SQLITE_MARK = sa.text(
    "UPDATE deliveries SET state = 1, attempts = attempts + 1, sender_id = :sender, at = :now "
    "WHERE id IN (SELECT value FROM json_each(:ids))"
)

# Of the few whose address has changed ever.
_SQLITE_EPOCH = sa.text("UPDATE deliveries SET epoch = :epoch WHERE id = :id")

_SQLITE_COUNT = (
    batches.update()
    .where(batches.c.id == sa.bindparam("batch"))
    .values(
        lease_until=database_now(postgresql=False) + sa.bindparam("lease", type_=sa.BigInteger),
        pending=batches.c.pending - sa.bindparam("gated", type_=sa.Integer),
        attempting=batches.c.attempting + sa.bindparam("gated", type_=sa.Integer),
    )
)

_STANDING = (
    sa.select(
        deliveries.c.id,
        subscribers.c.status,
        EDITION.label("chain"),
        subscribers.c.paused_until,
        sa.exists().where(suppressions.c.address_hash == subscribers.c.address_hash).label("suppressed"),
    )
    .outerjoin(subscribers, subscribers.c.id == deliveries.c.subscriber_id)
    .where(
        deliveries.c.id.in_(sa.bindparam("ids", expanding=True)),
        deliveries.c.batch_id == sa.bindparam("batch"),
        deliveries.c.state == _PENDING,
    )
)


def pass_gate(
    session: Session, claim: Claim, ids: Sequence[int], *, sender: int, lease_seconds: float, now_ms: int
) -> Gated | None:
    """Move the group's pending deliveries to attempting and return whom to mail; renews the lease.

    Only where the fence is still ours, the lease runs and the mailing is sending (else None, and nothing changes), and
    only for readers who are active, unsuppressed, not pausing and still of the batch's edition: others are skipped with
    their reason, or moved to a batch of the edition they chose since.
    """
    if session.postgresql:
        values = _values(claim, ids, _NONE_ACCEPTED, sender=sender, lease_seconds=lease_seconds, now_ms=now_ms)
        found = _found(session.rows(_POSTGRESQL_GATE, values))
    else:
        found = _sqlite(session, claim, ids, sender, lease_ms=int(lease_seconds * 1000), now_ms=now_ms)
    if found is None:
        return None
    if len(found.rows) < len(ids):
        _sort_out(session, claim, found.missing(ids), now_ms)
    return _gated(session.sealer, found)


async def pass_alone(
    database: Database,
    claim: Claim,
    ids: Sequence[int],
    accepted: Acceptances,
    *,
    sender: int,
    lease_seconds: float,
    now_ms: int,
) -> PassedAlone | None:
    """As `pass_gate`, with acceptances recorded, in a transaction of one statement that the loop asks; for PostgreSQL.

    It costs one round trip, where both within a transaction take four. None where the gate is shut: then nothing is
    recorded, either.
    """
    values = _values(claim, ids, accepted, sender=sender, lease_seconds=lease_seconds, now_ms=now_ms)
    found = _found(await database.rows_alone(_POSTGRESQL_GATE, values))
    if found is None:
        return None
    missing = found.missing(ids) if len(found.rows) < len(ids) else set()
    return PassedAlone(_gated(database.sealer, found), found.accepted == len(accepted.deliveries), missing)


def sort_out(session: Session, claim: Claim, ids: set[int], now_ms: int) -> None:
    """Skip or move those whom `pass_alone` did not let through."""
    # A cancel may have come between.
    hold(session, claim.batch)
    _sort_out(session, claim, ids, now_ms)


def still_open(session: Session, claim: Claim, delivery: int, attempt: int, *, now_ms: int) -> bool:
    """Whether a letter whose gate grew old may still be written: everything the gate asked holds now, too."""
    holding = _POSTGRESQL_HELD if session.postgresql else _SQLITE_HELD
    held = session.execute(holding, {"batch": claim.batch, "fence": claim.fence}).first()
    if held is None:
        return False
    suppressed = sa.exists().where(suppressions.c.address_hash == subscribers.c.address_hash)
    statement = (
        sa.select(deliveries.c.id)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber_id)
        .where(
            deliveries.c.id == delivery,
            deliveries.c.attempts == attempt,
            deliveries.c.state == _ATTEMPTING,
            subscribers.c.status == SubscriberStatus.ACTIVE.value,
            ~paused(day_of(now_ms)),
            held.chain == EDITION,
            # The letter in hand goes to the address of the gate.
            sa.func.coalesce(deliveries.c.epoch, 0) == subscribers.c.epoch,
            ~suppressed,
        )
    )
    return session.execute(statement).first() is not None


class _Found(NamedTuple):
    """What the statement said; a row: rate, acceptances, delivery, attempt, subscriber, epoch, address, reason."""

    rate: float | None
    accepted: int
    rows: Sequence[Sequence[Any]]

    def missing(self, ids: Sequence[int]) -> set[int]:
        """Those of `ids` who did not pass."""
        return set(ids).difference(row[2] for row in self.rows)


def _values(
    claim: Claim, ids: Sequence[int], accepted: Acceptances, *, sender: int, lease_seconds: float, now_ms: int
) -> dict[str, Any]:
    return {
        "batch": claim.batch,
        "fence": claim.fence,
        "accepted": array_literal(accepted.deliveries),
        "attempt": accepted.attempt,
        "ids": array_literal(ids),
        "sender": sender,
        "lease": int(lease_seconds * 1000),
        "now": now_ms,
        "today": day_of(now_ms),
    }


def _found(rows: Sequence[Sequence[Any]]) -> _Found | None:
    if not rows:
        return None
    rate, accepted, first, *_ = rows[0]
    # Where nobody passed, one row says so.
    return _Found(rate, accepted, () if first is None else rows)


def _gated(sealer: Sealer, found: _Found) -> Gated:
    try:
        return Gated(_recipients(sealer.open, found), found.rate)
    except (SpoiledAddressError, UnknownKeyError):
        # One row that does not open must not keep the others of its group waiting for ever.
        return _gated_singly(sealer, found)


def _gated_singly(sealer: Sealer, found: _Found) -> Gated:
    locked: set[bytes] = set()

    def opened(subscriber: bytes, sealed: bytes) -> str:
        try:
            return sealer.open(subscriber, sealed)
        except UnknownKeyError:
            locked.add(subscriber)
        except SpoiledAddressError:
            pass
        return ""

    every = _recipients(opened, found)
    return Gated(
        [one for one in every if one.subscriber not in locked],
        found.rate,
        [one for one in every if one.subscriber in locked],
    )


def _recipients(unseal: Callable[[bytes, bytes], str], found: _Found) -> list[Recipient]:
    made = Recipient._make  # of a tuple, because every letter costs one
    return [
        made((delivery, attempt, subscriber, epoch, unseal(subscriber, sealed), reason is None or reason in _NOT_ASKED))
        for _, _, delivery, attempt, subscriber, epoch, sealed, reason in found.rows
    ]


def _sqlite(
    session: Session, claim: Claim, ids: Sequence[int], sender: int, *, lease_ms: int, now_ms: int
) -> _Found | None:
    held = session.execute(_SQLITE_HELD, {"batch": claim.batch, "fence": claim.fence}).first()
    if held is None:
        return None
    wanted = json.dumps(list(ids))
    eligible = {"ids": wanted, "batch": claim.batch, "chain": held.chain, "today": day_of(now_ms)}
    rows = session.execute(_SQLITE_ELIGIBLE, eligible).all()
    marked = json.dumps([row.id for row in rows])
    session.execute(_SQLITE_MARK, {"ids": marked, "sender": sender, "now": now_ms})
    changed = [{"id": row.id, "epoch": row.epoch} for row in rows if row.epoch]
    if changed:
        session.execute(_SQLITE_EPOCH, changed)
    session.execute(_SQLITE_COUNT, {"batch": claim.batch, "gated": len(rows), "lease": lease_ms})
    return _Found(held.rate, 0, rows)


def _sort_out(session: Session, claim: Claim, ids: set[int], now_ms: int) -> None:
    """Skip or move those whom the gate did not let through."""
    skips: dict[SkipReason, list[int]] = {}
    moves: dict[str, list[int]] = {}
    for row in session.execute(_STANDING, {"ids": list(ids), "batch": claim.batch}):
        if row.status is None:
            skips.setdefault(SkipReason.ERASED, []).append(row.id)
        elif row.suppressed:
            skips.setdefault(SkipReason.SUPPRESSED, []).append(row.id)
        elif row.status != SubscriberStatus.ACTIVE.value:
            unsubscribed = row.status == SubscriberStatus.UNSUBSCRIBED.value
            skips.setdefault(SkipReason.UNSUBSCRIBED if unsubscribed else SkipReason.INACTIVE, []).append(row.id)
        elif row.paused_until is not None and row.paused_until > day_of(now_ms):
            skips.setdefault(SkipReason.PAUSED, []).append(row.id)
        elif row.chain != claim.chain:
            moves.setdefault(row.chain, []).append(row.id)
    for reason, skipped in skips.items():
        skip(session, claim.batch, skipped, reason, now_ms)
    if moves:
        move_readers(session, claim, moves)


def skip(session: Session, batch: int, ids: Sequence[int], reason: SkipReason, now_ms: int) -> None:
    """Mark pending deliveries of one batch as skipped."""
    statement = deliveries.update().where(deliveries.c.id.in_(ids), deliveries.c.state == _PENDING)
    done = session.execute(statement.values(state=int(DeliveryState.SKIPPED), reason=reason.value, at=now_ms)).rowcount
    add_counts(session, batch, {DeliveryState.PENDING: -done, DeliveryState.SKIPPED: done})
