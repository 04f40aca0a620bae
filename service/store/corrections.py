"""Corrections in mid-run: batches that were not begun get the new rendition, the rest of the others moves to new ones.

Who was mailed stays in a batch of the rendition that was mailed: so the ledger knows who got which.
"""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from service.domain.content import TextStatus
from service.domain.delivery import DeliveryState
from service.store.batches import Claim, give_back, hold
from service.store.database import Session
from service.store.instants import stored
from service.store.locks import serialise_batch_ids
from service.store.tables import articles, batches, deliveries, issues, texts

_WAITING = (int(DeliveryState.PENDING), int(DeliveryState.DEFERRED))


def end_claims(session: Session, mailing: int) -> None:
    """Fence off whoever holds a batch of the mailing: what it has in memory is not what is to be sent any more."""
    statement = batches.update().where(batches.c.mailing_id == mailing, batches.c.lease_until > 0)
    session.execute(statement.values(fence=batches.c.fence + 1, lease_until=0, rung_at=0))


def chains_waiting(session: Session, mailing: int, *, after_cancel: bool = False) -> set[str]:
    """The chains in which somebody may still be mailed: who is being mailed, is uncertain, or waits.

    `after_cancel` who waits is cancelled.
    """
    may = batches.c.attempting + batches.c.uncertain
    if not after_cancel:
        may = may + batches.c.pending + batches.c.deferred
    statement = sa.select(batches.c.chain).distinct().where(batches.c.mailing_id == mailing, may > 0)
    return set(session.execute(statement).scalars())


def renew_batch(session: Session, claim: Claim, rendition: int) -> int | None:
    """Give a claimed batch the new rendition where nobody has got the old one out of it; None then.

    Else what waits in it moves to a new batch, whose number is returned, and the claim ends.
    """
    hold(session, claim.batch)
    row = session.execute(sa.select(batches).where(batches.c.id == claim.batch)).one()
    if not row.accepted + row.attempting + row.refused + row.uncertain:
        session.execute(batches.update().where(batches.c.id == claim.batch).values(rendition_id=rendition))
        return None
    serialise_batch_ids(session)
    number = int(session.scalar(sa.select(sa.func.max(batches.c.id)))) + 1
    session.execute(
        batches.insert().values(
            id=number,
            mailing_id=claim.mailing,
            chain=claim.chain,
            rendition_id=rendition,
            open=True,
            provider=row.provider,
            not_before=row.not_before,
            pending=row.pending,
            deferred=row.deferred,
        )
    )
    waiting = sa.and_(deliveries.c.batch_id == claim.batch, deliveries.c.state.in_(_WAITING))
    session.execute(deliveries.update().where(waiting).values(batch_id=number))
    session.execute(batches.update().where(batches.c.id == claim.batch).values(pending=0, deferred=0))
    give_back(session, claim)
    return number


def unapproved_since(
    session: Session, week: str, since: dt.datetime, *, touched: bool = False
) -> list[tuple[str, str, str]]:
    """Article, language and status of the texts that wait for an approval, or were changed since and have none.

    Where they must have been `touched`, only of those that were changed since.
    """
    changed = texts.c.changed_at >= stored(since)
    statement = (
        sa.select(articles.c.slug, texts.c.language, texts.c.status)
        .join(articles, articles.c.id == texts.c.article_id)
        .join(issues, issues.c.id == articles.c.issue_id)
        .where(
            issues.c.week == week,
            texts.c.status != TextStatus.APPROVED.value,
            changed if touched else sa.or_(texts.c.status == TextStatus.READY.value, changed),
        )
        .order_by(articles.c.position, texts.c.language)
    )
    return [(row.slug, row.language, row.status) for row in session.execute(statement)]
