"""What the database tells of the engine's health: what is due and since when, what nobody answers for. Plain reads."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.domain.mailing import MailingState
from service.store import measures
from service.store.breakers import OUTAGE, PROBING, PROVEN
from service.store.database import Session
from service.store.engine_tables import breakers, hosts
from service.store.instants import database_now, stored
from service.store.tables import batches, mailings, notices, senders

# A worker renews its lease each second, or each third of a short one: twice its lease is long enough to be sure.
_SILENT_MS = 120_000


@dataclass(frozen=True, slots=True)
class Vitals:
    """Ages in seconds, by the database's clock; 0 where nothing waits."""

    due_seconds: float  # since letters that may be sent now, or a mailing to be planned, have seen no progress
    ring_seconds: float  # as due_seconds, of letters that were rung for while no worker has any batch in hand
    notice_seconds: float  # since the oldest notice that is due, and that nobody has in hand, has been due
    lost_leases: int  # batches whose lease ran out with letters under way
    unsettled_senders: int  # processes of hosts that have been silent
    uncertain: int  # letters of all mailings whose fate is unknown
    breakers: dict[str, int]  # relays and providers that are left alone, by kind
    hosts: int  # hosts whose sweep was seen lately


def read(session: Session) -> Vitals:
    """The signs of this moment."""
    clock = int(session.scalar(sa.select(database_now(postgresql=session.postgresql))))
    unfinished = batches.c.attempting > 0
    expired = sa.and_(batches.c.lease_until > 0, batches.c.lease_until < clock)
    silent = sa.and_(senders.c.settled_at.is_(None), senders.c.seen_at < clock - _SILENT_MS)
    # Those whose time is over are kept for a while, to be remembered; only one that must be tried stays shut.
    shut = sa.or_(breakers.c.until > clock, breakers.c.kind.in_((OUTAGE, PROBING)))
    held = sa.select(breakers.c.kind, sa.func.count().label("found")).where(shut, breakers.c.kind != PROVEN)
    kinds = held.group_by(breakers.c.kind)
    return Vitals(
        due_seconds=max(_due_seconds(session, clock), _unplanned_seconds(session, clock)),
        ring_seconds=_ring_seconds(session, clock),
        notice_seconds=_notice_seconds(session, clock),
        lost_leases=_count(session, batches, unfinished, expired),
        unsettled_senders=_count(session, senders, silent),
        uncertain=int(session.scalar(sa.select(sa.func.coalesce(sa.func.sum(batches.c.uncertain), 0)))),
        breakers={row.kind: row.found for row in session.execute(kinds)},
        hosts=_count(session, hosts, hosts.c.seen_at > clock - _SILENT_MS),
    )


def _count(session: Session, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
    return int(session.scalar(sa.select(sa.func.count()).select_from(table).where(*conditions)))


def _due(clock: int) -> list[sa.ColumnElement[bool]]:
    return [
        mailings.c.state == MailingState.SENDING.value,
        batches.c.open,
        batches.c.due_at <= clock,
        batches.c.not_before <= clock,
        batches.c.pending + batches.c.deferred > 0,
    ]


def _due_seconds(session: Session, clock: int, *more: sa.ColumnElement[bool]) -> float:
    since = sa.case((batches.c.due_at > batches.c.not_before, batches.c.due_at), else_=batches.c.not_before)
    statement = (
        sa.select(mailings.c.id, mailings.c.started_at, sa.func.min(since).label("since"))
        .join(batches, batches.c.mailing_id == mailings.c.id)
        .where(*_due(clock), *more)
        .group_by(mailings.c.id, mailings.c.started_at)
    )
    oldest = 0
    for row in session.execute(statement).all():
        moved = measures.progress(session, row.id)
        last = max(row.started_at or 0, row.since, stored(moved) if moved else 0)
        oldest = max(oldest, clock - last)
    return oldest / 1000


def _unplanned_seconds(session: Session, clock: int) -> float:
    """Of mailings that no worker has planned yet: their letters are not counted, but they wait."""
    state, release_at = mailings.c.state, mailings.c.release_at
    planning = state == MailingState.PLANNING.value
    released = sa.and_(state == MailingState.SCHEDULED.value, release_at <= clock)
    statement = sa.select(mailings.c.id, mailings.c.created_at, release_at).where(sa.or_(planning, released))
    oldest = 0
    for row in session.execute(statement).all():
        moved = measures.progress(session, row.id)
        last = max(row.created_at, row.release_at or 0, stored(moved) if moved else 0)
        oldest = max(oldest, clock - last)
    return oldest / 1000


def _ring_seconds(session: Session, clock: int) -> float:
    # When they were rung for says nothing: each sweep rings again. Nor does one batch while workers are at others.
    if _count(session, batches, batches.c.open, batches.c.lease_until > clock):
        return 0.0
    return _due_seconds(session, clock, batches.c.rung_at > 0)


def _notice_seconds(session: Session, clock: int) -> float:
    waiting = notices.c.state.in_([int(DeliveryState.PENDING), int(DeliveryState.DEFERRED)])
    free = sa.and_(notices.c.due_at <= clock, notices.c.lease_until <= clock)
    oldest = session.scalar(sa.select(sa.func.min(notices.c.due_at)).where(waiting, free))
    return max(0, clock - oldest) / 1000 if oldest else 0.0
