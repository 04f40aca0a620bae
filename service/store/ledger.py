"""The ledger: one line per delivery of a mailing, and the whole story of one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.store.database import Session
from service.store.instants import loaded, loaded_or_none
from service.store.tables import (
    attempts,
    batches,
    deliveries,
    issues,
    mailing_audience,
    mailings,
    renditions,
    senders,
)

_STREAM = 2000


@dataclass(frozen=True, slots=True)
class Entry:
    """One delivery as the ledger shows it; `subscriber` is None once it was erased or the retention time is over."""

    delivery: int
    subscriber: bytes | None
    state: DeliveryState
    chain: str
    batch: int
    attempts: int
    reason: str | None
    revision: int | None
    relay: str | None
    at: dt.datetime | None
    due_at: dt.datetime | None
    code: int | None
    reply: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that did not end in an acceptance."""

    number: int
    at: dt.datetime
    outcome: str
    code: int | None
    enhanced: str | None
    reply: str | None
    phase: str | None
    relay: str | None


@dataclass(frozen=True, slots=True)
class Mailed:
    """One delivery as its reader is told of it."""

    delivery: int
    week: str
    edition: str
    state: DeliveryState
    at: dt.datetime | None


_LINES = (
    sa.select(
        deliveries.c.id,
        deliveries.c.subscriber_id,
        deliveries.c.state,
        batches.c.chain,
        deliveries.c.batch_id,
        deliveries.c.attempts,
        deliveries.c.reason,
        deliveries.c.at,
        deliveries.c.due_at,
        renditions.c.revision,
        senders.c.relay,
        attempts.c.code,
        attempts.c.reply,
        attempts.c.relay.label("failed_at"),
    )
    .join(batches, batches.c.id == deliveries.c.batch_id)
    .outerjoin(renditions, renditions.c.id == batches.c.rendition_id)
    .outerjoin(senders, senders.c.id == deliveries.c.sender_id)
    .outerjoin(attempts, sa.and_(attempts.c.delivery_id == deliveries.c.id, attempts.c.number == deliveries.c.attempts))
)


def lines(session: Session, mailing: int) -> Iterator[Entry]:
    """Every delivery of the mailing, streamed, in the order of their ids."""
    for row in session.stream(_LINES.where(deliveries.c.mailing_id == mailing).order_by(deliveries.c.id), _STREAM):
        yield _entry(row)


def of_subscriber(session: Session, mailing: int, subscriber: bytes) -> Entry | None:
    """That reader's delivery in the mailing, if there is one."""
    condition = sa.and_(deliveries.c.mailing_id == mailing, deliveries.c.subscriber_id == subscriber)
    row = session.execute(_LINES.where(condition)).first()
    return None if row is None else _entry(row)


def of_reader(session: Session, subscriber: bytes) -> list[Mailed]:
    """Every delivery of a reader that is still tied to them; oldest first."""
    statement = (
        sa.select(deliveries.c.id, issues.c.week, batches.c.chain, deliveries.c.state, deliveries.c.at)
        .join(batches, batches.c.id == deliveries.c.batch_id)
        .join(mailings, mailings.c.id == deliveries.c.mailing_id)
        .join(issues, issues.c.id == mailings.c.issue_id)
        # By mailing, because there is no index over the reader alone.
        .where(deliveries.c.mailing_id.in_(sa.select(mailings.c.id)), deliveries.c.subscriber_id == subscriber)
        .order_by(issues.c.week, deliveries.c.id)
    )
    return [
        Mailed(row.id, row.week, row.chain, DeliveryState(row.state), loaded_or_none(row.at))
        for row in session.execute(statement)
    ]


def chosen_for(session: Session, subscriber: bytes) -> list[str]:
    """The weeks of the issues whose mailings chose that reader by name."""
    statement = (
        sa.select(issues.c.week)
        .join(mailings, mailings.c.issue_id == issues.c.id)
        .join(mailing_audience, mailing_audience.c.mailing_id == mailings.c.id)
        .where(mailing_audience.c.subscriber_id == subscriber)
        .order_by(issues.c.week)
    )
    return list(session.execute(statement).scalars())


def failed_attempts(session: Session, delivery: int) -> list[Attempt]:
    """The attempts of a delivery that did not end in an acceptance, in order."""
    statement = sa.select(attempts).where(attempts.c.delivery_id == delivery).order_by(attempts.c.number)
    return [
        Attempt(row.number, loaded(row.at), row.outcome, row.code, row.enhanced, row.reply, row.phase, row.relay)
        for row in session.execute(statement)
    ]


def _entry(row: Any) -> Entry:
    accepted = row.state == DeliveryState.ACCEPTED
    return Entry(
        row.id,
        row.subscriber_id,
        DeliveryState(row.state),
        row.chain,
        row.batch_id,
        row.attempts,
        row.reason,
        row.revision,
        row.relay if row.attempts and not row.failed_at else row.failed_at,
        loaded_or_none(row.at),
        loaded_or_none(row.due_at),
        None if accepted else row.code,
        None if accepted else row.reply,
    )
