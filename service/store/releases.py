"""Which issues the public may see: those whose mailing has begun. Plain reads."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from service.domain.content import Asset
from service.domain.mailing import MailingState
from service.domain.weeks import Week
from service.store.database import Session
from service.store.tables import articles, assets, issues, mailings

_SHOWN = [state.value for state in (MailingState.SENDING, MailingState.PAUSED, MailingState.SENT)]


def _released() -> sa.ColumnElement[bool]:
    # One that was cancelled on its way is in some readers' hands, and its links lead here.
    begun = sa.and_(mailings.c.state == MailingState.CANCELLED.value, mailings.c.started_at.is_not(None))
    mailing = sa.and_(
        mailings.c.issue_id == issues.c.id, mailings.c.kind == "production", sa.or_(mailings.c.state.in_(_SHOWN), begun)
    )
    return sa.exists(sa.select(mailings.c.id).where(mailing))


def weeks(session: Session) -> list[Week]:
    """The weeks of all released issues, newest first."""
    rows = session.execute(sa.select(issues.c.week).where(_released()).order_by(issues.c.week.desc()))
    return [Week.parse(row.week) for row in rows]


def is_released(session: Session, week: Week) -> bool:
    """Whether that week's issue may be read by anyone."""
    return session.scalar(sa.select(issues.c.id).where(issues.c.week == str(week), _released())) is not None


def week_of_article(session: Session, slug: str, sections: Collection[str]) -> Week | None:
    """The newest released issue with an article of that slug in one of these sections; None where there is none."""
    found = session.scalar(
        sa.select(issues.c.week)
        .join(articles, articles.c.issue_id == issues.c.id)
        .where(articles.c.slug == slug, articles.c.section.in_(sections), _released())
        .order_by(issues.c.week.desc())
        .limit(1)
    )
    return None if found is None else Week.parse(found)


def picture(session: Session, week: Week, name: str) -> Asset | None:
    """A file of a released issue's folder; None where there is no such file or the issue is not released."""
    row = session.execute(
        sa.select(assets.c.name, assets.c.media_type, assets.c.data)
        .join(issues, issues.c.id == assets.c.issue_id)
        .where(issues.c.week == str(week), assets.c.name == name, _released())
    ).one_or_none()
    return None if row is None else Asset(row.name, row.media_type, bytes(row.data))


def newest(session: Session) -> Week | None:
    """The week of the newest released issue; None where there is none yet."""
    found = session.scalar(sa.select(issues.c.week).where(_released()).order_by(issues.c.week.desc()).limit(1))
    return None if found is None else Week.parse(found)
