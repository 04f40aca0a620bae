"""Addresses that must not be mailed, as keyed hashes: they outlive the erasure of the reader."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from service.domain.subscriber import SuppressionReason
from service.domain.weeks import Week
from service.store.database import Session
from service.store.hashes import of_hashes
from service.store.tables import suppressions

# The rule of `outranks`, in the database, so that many go in at once.
_INSERT = sa.text(
    "INSERT INTO suppressions (address_hash, reason, since_week) VALUES (:address_hash, :reason, :since_week) "
    "ON CONFLICT (address_hash) DO UPDATE SET reason = excluded.reason, since_week = excluded.since_week "
    "WHERE suppressions.reason IN ('erased', 'bounced') AND excluded.reason NOT IN ('erased', 'bounced')"
)


@dataclass(frozen=True, slots=True)
class Suppression:
    """Why an address must not be mailed, and since which week."""

    reason: SuppressionReason
    since_week: Week


def find(session: Session, address_hash: bytes) -> Suppression | None:
    """The suppression of an address; None where it may be mailed."""
    row = session.execute(sa.select(suppressions).where(suppressions.c.address_hash == address_hash)).one_or_none()
    return None if row is None else Suppression(SuppressionReason(row.reason), Week.parse(row.since_week))


def is_suppressed(session: Session, address_hash: bytes) -> bool:
    """Whether an address must not be mailed."""
    return find(session, address_hash) is not None


def suppressed_among(session: Session, hashes: Collection[bytes]) -> dict[bytes, SuppressionReason]:
    """Those of many addresses that must not be mailed, and why."""
    rows = of_hashes(session, "SELECT address_hash, reason FROM suppressions WHERE address_hash", hashes)
    return {address_hash: SuppressionReason(reason) for address_hash, reason in rows}


def add(session: Session, address_hash: bytes, reason: SuppressionReason, week: Week) -> bool:
    """Suppress an address; False where it is suppressed already for as strong a reason.

    A reason that only an operator may lift takes the place of one that a new sign-up lifts, never the other way.
    """
    values = {"address_hash": address_hash, "reason": reason.value, "since_week": str(week)}
    return session.execute(_INSERT, values).rowcount > 0


def insert(session: Session, reasons: Sequence[tuple[bytes, SuppressionReason]], week: Week) -> None:
    """Suppress many addresses at once, one after another; those that are suppressed already as `add` says."""
    rows = [{"address_hash": known, "reason": reason.value, "since_week": str(week)} for known, reason in reasons]
    if rows:
        session.execute(_INSERT, rows)


def lift(session: Session, address_hash: bytes) -> SuppressionReason | None:
    """Remove the suppression of an address and return what it was; None where there was none."""
    statement = suppressions.delete().where(suppressions.c.address_hash == address_hash)
    lifted = session.scalar(statement.returning(suppressions.c.reason))
    return None if lifted is None else SuppressionReason(lifted)
