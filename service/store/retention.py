"""Forgetting who got which mailing, and what relays said, once neither is needed any more."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from service.domain.mailing import SETTLED
from service.store.database import Session
from service.store.instants import stored
from service.store.tables import attempts, deliveries, mailing_audience, mailings

_SETTLED = tuple(state.value for state in SETTLED)


def ripe_mailings(session: Session, before: dt.datetime) -> list[int]:
    """The mailings that ended `before` and still know their readers, the oldest first."""
    named = sa.exists().where(deliveries.c.mailing_id == mailings.c.id, deliveries.c.subscriber_id.is_not(None))
    chosen = sa.exists().where(mailing_audience.c.mailing_id == mailings.c.id)
    ended = sa.and_(mailings.c.state.in_(_SETTLED), mailings.c.finished_at < stored(before))
    statement = sa.select(mailings.c.id).where(ended, sa.or_(named, chosen)).order_by(mailings.c.id)
    return list(session.execute(statement).scalars())


def cut_links(session: Session, mailing: int, before: dt.datetime, *, limit: int) -> int:
    """Forget the readers of up to `limit` deliveries of a mailing that ended `before`; of how many.

    The deliveries stay, and name nobody: their numbers must never be given out again, because journals and the relays'
    logs know them, and batches keep the sums. What relays said of them goes.
    """
    ended = sa.select(mailings.c.id).where(
        mailings.c.id == mailing, mailings.c.state.in_(_SETTLED), mailings.c.finished_at < stored(before)
    )
    # Held, so that nobody sets it going again meanwhile.
    if session.execute(ended.with_for_update() if session.postgresql else ended).first() is None:
        return 0
    named = sa.and_(deliveries.c.mailing_id == mailing, deliveries.c.subscriber_id.is_not(None))
    ids = list(session.execute(sa.select(deliveries.c.id).where(named).limit(limit)).scalars())
    session.execute(deliveries.update().where(deliveries.c.id.in_(ids)).values(subscriber_id=None, epoch=None))
    session.execute(attempts.delete().where(attempts.c.delivery_id.in_(ids)))
    if len(ids) < limit:
        session.execute(mailing_audience.delete().where(mailing_audience.c.mailing_id == mailing))
    return len(ids)


def links(session: Session, mailing: int) -> int:
    """Of how many deliveries of the mailing the readers are known."""
    named = sa.and_(deliveries.c.mailing_id == mailing, deliveries.c.subscriber_id.is_not(None))
    return int(session.scalar(sa.select(sa.func.count()).select_from(deliveries).where(named)))


def forget_replies(session: Session, before: dt.datetime) -> int:
    """Forget the words of replies to attempts made `before`; of how many. Code and class stay."""
    return session.execute(attempts.update().where(_old_words(before)).values(reply=None)).rowcount


def old_replies(session: Session, before: dt.datetime) -> int:
    """How many there are to forget."""
    return int(session.scalar(sa.select(sa.func.count()).select_from(attempts).where(_old_words(before))))


def _old_words(before: dt.datetime) -> sa.ColumnElement[bool]:
    return sa.and_(attempts.c.at < stored(before), attempts.c.reply.is_not(None))
