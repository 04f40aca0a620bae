"""Mailboxes that are not there, or refuse for weeks: what suppresses a reader, and the evidence without the address."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.bounces import WINDOW, SoftRefusal, is_given_up, standing
from service.domain.delivery import DeliveryState
from service.domain.growth import Change
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.store import growth, suppressions
from service.store.database import Session
from service.store.departures import Departure, Step
from service.store.engine_tables import bounces
from service.store.instants import loaded, stored
from service.store.tables import deliveries, issues, mailings, subscribers

KEEP = dt.timedelta(days=180)
KEEP_REPLIES = dt.timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Said:
    """What the relay said of a mailbox; `reply` has its addresses cut out.

    `returned` where it had taken the mail first: then its acceptance says nothing for the mailbox.
    """

    code: int | None
    enhanced: str | None
    reply: str | None = field(repr=False)
    returned: bool = False


def suppress(session: Session, delivery: int, now_ms: int) -> None:
    """A mailbox that is not there: its reader counts as bounced, and the address is not mailed again.

    Nothing where the reader's address has changed since the letter passed its gate: the refused one was the old one.
    """
    reader = _addressee(session, delivery)
    if reader is not None:
        _send_away(session, reader, now_ms)


def score(session: Session, delivery: int, said: Said, *, now_ms: int) -> None:
    """Keep a soft refusal as evidence, one a day; the one that is one too many suppresses, as a hard refusal does.

    Nothing is kept of a refusal of an address that has changed since the gate.
    """
    reader = _addressee(session, delivery)
    if reader is None:
        return
    today = loaded(now_ms).date()
    insert = postgresql.insert if session.postgresql else sqlite.insert
    statement = insert(bounces).values(
        subscriber_id=reader.id,
        day=today.isoformat(),
        mailing_id=reader.mailing_id,
        epoch=reader.epoch,
        returned=said.returned,
        code=said.code,
        enhanced=said.enhanced,
        reply=said.reply,
    )
    keys = ["subscriber_id", "day"]
    once = statement.on_conflict_do_nothing(index_elements=keys)
    if said.returned:
        once = statement.on_conflict_do_update(
            index_elements=keys, set_={"returned": True, "mailing_id": reader.mailing_id}
        )
    if session.execute(once).rowcount == 0:
        return
    accepted_on = _last_acceptance(session, reader.id, today)
    if is_given_up(_refusals(session, reader.id, reader.epoch), accepted_on=accepted_on, today=today):
        _send_away(session, reader, now_ms)


def of_reader(session: Session, subscriber: bytes, *, today: dt.date) -> list[SoftRefusal]:
    """The soft refusals that count against a reader at present, oldest first."""
    epoch = session.scalar(sa.select(subscribers.c.epoch).where(subscribers.c.id == subscriber))
    accepted_on = _last_acceptance(session, subscriber, today)
    return standing(_refusals(session, subscriber, epoch or 0), accepted_on=accepted_on, today=today)


@dataclass(frozen=True, slots=True)
class Kept:
    """One refusal as it is kept, for its reader: the day, the issue's week, and what the relay said."""

    day: str
    week: str | None
    returned: bool
    code: int | None
    enhanced: str | None
    reply: str | None = field(repr=False)


def kept(session: Session, subscriber: bytes) -> list[Kept]:
    """All evidence about a reader, oldest first, whether it counts at present or not."""
    statement = (
        sa.select(
            *(bounces.c.day, issues.c.week, bounces.c.returned, bounces.c.code, bounces.c.enhanced, bounces.c.reply)
        )
        .outerjoin(mailings, mailings.c.id == bounces.c.mailing_id)
        .outerjoin(issues, issues.c.id == mailings.c.issue_id)
        .where(bounces.c.subscriber_id == subscriber)
        .order_by(bounces.c.day)
    )
    return [
        Kept(row.day, row.week, row.returned, row.code, row.enhanced, row.reply) for row in session.execute(statement)
    ]


def prune(session: Session, *, now: dt.datetime) -> int:
    """Forget what has had its time: refusals after 180 days or an acceptance, replies after 7 days. Idempotent.

    Returns how many refusals went.
    """
    today = now.date()
    aged = session.execute(bounces.delete().where(_aged(today))).rowcount
    old_words = sa.and_(bounces.c.day < (today - KEEP_REPLIES).isoformat(), bounces.c.reply.is_not(None))
    session.execute(bounces.update().where(old_words).values(reply=None))
    # Now, because the link from a reader to the deliveries is cut long before the evidence is old.
    disproved = 0
    for row in session.execute(_accepted_since(today)).all():
        disproved += session.execute(bounces.delete().where(_reached(row))).rowcount
    return aged + disproved


def prunable(session: Session, *, now: dt.datetime) -> int:
    """How many refusals `prune` would forget."""
    today = now.date()
    count = sa.select(sa.func.count()).select_from(bounces)
    aged = int(session.scalar(count.where(_aged(today))))
    accepted = session.execute(_accepted_since(today)).all()
    return aged + sum(int(session.scalar(count.where(_reached(row), ~_aged(today)))) for row in accepted)


def _aged(today: dt.date) -> sa.ColumnElement[bool]:
    return bounces.c.day < (today - KEEP).isoformat()


def _reached(accepted: Any) -> sa.ColumnElement[bool]:
    """The refusals of a reader of before a mail arrived there."""
    mine = bounces.c.subscriber_id == accepted.subscriber_id
    return sa.and_(mine, bounces.c.day <= loaded(accepted.at).date().isoformat())


def _addressee(session: Session, delivery: int) -> Any:
    """The reader of a delivery, while the address is the one that its last gate handed out; else None."""
    statement = (
        sa.select(
            subscribers.c.id,
            subscribers.c.address_hash,
            subscribers.c.epoch,
            deliveries.c.mailing_id,
        )
        .join(deliveries, deliveries.c.subscriber_id == subscribers.c.id)
        .where(deliveries.c.id == delivery, sa.func.coalesce(deliveries.c.epoch, 0) == subscribers.c.epoch)
    )
    return session.execute(statement).first()


def _send_away(session: Session, reader: Any, now_ms: int) -> None:
    # Whoever left or complained while the letter was under way stays so: that is the stronger word.
    active = sa.and_(subscribers.c.id == reader.id, subscribers.c.status == SubscriberStatus.ACTIVE.value)
    sent_away = subscribers.update().where(active).values(status=SubscriberStatus.BOUNCED.value)
    chain = session.scalar(sent_away.returning(subscribers.c.chain))
    week = Week.of(loaded(now_ms).date())
    if chain is not None:
        growth.note(session, week, chain, Change.BOUNCED)
    if suppressions.add(session, reader.address_hash, SuppressionReason.BOUNCED, week):
        session.depart(Departure(week, Step.BOUNCED, reader.address_hash))


def _refusals(session: Session, subscriber: bytes, epoch: int) -> list[SoftRefusal]:
    # Of an address that the reader has no longer, nothing counts.
    mine = sa.and_(bounces.c.subscriber_id == subscriber, bounces.c.epoch == epoch)
    rows = session.execute(sa.select(bounces.c.day, bounces.c.mailing_id).where(mine))
    return [SoftRefusal(dt.date.fromisoformat(row.day), row.mailing_id) for row in rows]


def _recent_mailings(today: dt.date) -> sa.Select[tuple[int]]:
    # By mailing, because there is no index over the reader alone.
    first = dt.datetime.combine(today - WINDOW, dt.time(), dt.UTC)
    return sa.select(mailings.c.id).where(mailings.c.created_at >= stored(first))


def _arrived() -> sa.ColumnElement[bool]:
    """Accepted, and not returned since."""
    returned = sa.exists().where(
        bounces.c.subscriber_id == deliveries.c.subscriber_id,
        bounces.c.mailing_id == deliveries.c.mailing_id,
        bounces.c.returned,
    )
    return sa.and_(deliveries.c.state == int(DeliveryState.ACCEPTED), ~returned)


def _last_acceptance(session: Session, subscriber: bytes, today: dt.date) -> dt.date | None:
    statement = sa.select(sa.func.max(deliveries.c.at)).where(
        deliveries.c.mailing_id.in_(_recent_mailings(today)),
        deliveries.c.subscriber_id == subscriber,
        _arrived(),
    )
    at = session.scalar(statement)
    return None if at is None else loaded(at).date()


def _accepted_since(today: dt.date) -> sa.Select[tuple[bytes, int]]:
    scored = sa.select(bounces.c.subscriber_id.label("reader")).distinct().subquery()
    return (
        sa.select(deliveries.c.subscriber_id, sa.func.max(deliveries.c.at).label("at"))
        .join(scored, scored.c.reader == deliveries.c.subscriber_id)
        .where(
            deliveries.c.mailing_id.in_(_recent_mailings(today)),
            _arrived(),
        )
        .group_by(deliveries.c.subscriber_id)
    )
