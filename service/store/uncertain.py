"""Uncertain deliveries: their final dot was written and no reply was read. Each is listed with what is known of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.domain.delivery import FOUND_LATER, DeliveryState
from service.domain.mailing import MailingState
from service.domain.replies import ReplyClass
from service.store.database import Session
from service.store.instants import loaded, stored
from service.store.tables import attempts, batches, deliveries, mailings, senders

_UNCERTAIN = int(DeliveryState.UNCERTAIN)


@dataclass(frozen=True, slots=True)
class Uncertain:
    """One uncertain delivery and its evidence.

    `subscriber` is None once the reader was erased. `at` is when the attempt became uncertain, `since` the earliest
    time at which its letter may have been handed over, `host` the machine (by the id in its data directory) whose
    worker made it, `read` what was read or seen instead of a reply. `times` counts the attempts of this delivery that
    became uncertain: more than one after a resend.
    """

    delivery: int
    attempt: int
    subscriber: bytes | None
    batch: int
    chain: str
    since: dt.datetime
    at: dt.datetime
    relay: str | None
    host: str | None
    phase: str | None
    reason: str | None
    read: str | None
    times: int


def listed(session: Session, mailing: int) -> list[Uncertain]:
    """The uncertain deliveries of a mailing, in the order of their ids."""
    times = (
        sa.select(sa.func.count())
        .where(attempts.c.delivery_id == deliveries.c.id, attempts.c.outcome == ReplyClass.UNCERTAIN.value)
        .correlate(deliveries)
        .scalar_subquery()
        .label("times")
    )
    this = sa.and_(attempts.c.delivery_id == deliveries.c.id, attempts.c.number == deliveries.c.attempts)
    # By the few batches that have such rows at all: `deliveries` has no index on its state.
    doubtful = sa.and_(batches.c.mailing_id == mailing, batches.c.uncertain > 0, deliveries.c.state == _UNCERTAIN)
    statement = (
        sa.select(
            deliveries.c.id,
            deliveries.c.attempts,
            deliveries.c.subscriber_id,
            deliveries.c.batch_id,
            batches.c.chain,
            deliveries.c.at,
            senders.c.started_at,
            mailings.c.created_at,
            sa.func.coalesce(sa.func.nullif(attempts.c.relay, ""), senders.c.relay).label("relay"),
            senders.c.host,
            attempts.c.phase,
            deliveries.c.reason,
            attempts.c.reply,
            times,
        )
        .join(batches, batches.c.id == deliveries.c.batch_id)
        .join(mailings, mailings.c.id == batches.c.mailing_id)
        .outerjoin(senders, senders.c.id == deliveries.c.sender_id)
        .outerjoin(attempts, this)
        .where(doubtful)
        .order_by(deliveries.c.id)
    )
    return [
        Uncertain(
            row.id,
            row.attempts,
            row.subscriber_id,
            row.batch_id,
            row.chain,
            loaded(_since(row)),
            loaded(row.at or 0),
            row.relay,
            row.host,
            row.phase,
            row.reason,
            row.reply,
            row.times,
        )
        for row in session.execute(statement)
    ]


def _since(row: sa.Row[Any]) -> int:
    at: int = row.at or 0
    if row.reason not in FOUND_LATER:
        return at
    # A process may be older than the mailing; one that a restored database had forgotten seems younger than its letter.
    begun: int = max(row.started_at or 0, row.created_at)
    return min(at, begun)


def hold(session: Session, mailing: int) -> None:
    """Lock the batches that have uncertain deliveries, before those, as everywhere. SQLite has one writer anyway."""
    if session.postgresql:
        held = sa.select(batches.c.id).where(batches.c.mailing_id == mailing, batches.c.uncertain > 0)
        session.execute(held.order_by(batches.c.id).with_for_update()).all()


def mailings_with(session: Session, states: Collection[MailingState], *, since: dt.datetime) -> list[int]:
    """The mailings in these states, made since then, that have uncertain deliveries."""
    doubtful = sa.exists().where(batches.c.mailing_id == mailings.c.id, batches.c.uncertain > 0)
    wanted = mailings.c.state.in_([state.value for state in states])
    statement = sa.select(mailings.c.id).where(wanted, mailings.c.created_at >= stored(since), doubtful)
    return list(session.execute(statement.order_by(mailings.c.id)).scalars())
