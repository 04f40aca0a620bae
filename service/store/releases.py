"""Which issues the public may see: those whose mailing has begun. Plain reads."""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy as sa

from service.domain.archive import Archive, ListedArticle, ReleasedIssue
from service.domain.content import Asset, TextStatus, Trend
from service.domain.mailing import MailingState
from service.domain.weeks import Week
from service.store.database import Session
from service.store.instants import loaded
from service.store.tables import articles, assets, issues, mailings, publication, texts

_SHOWN = [state.value for state in (MailingState.SENDING, MailingState.PAUSED, MailingState.SENT)]


def _released() -> sa.ColumnElement[bool]:
    # One that was cancelled on its way is in some readers' hands, and its links lead here.
    begun = sa.and_(mailings.c.state == MailingState.CANCELLED.value, mailings.c.started_at.is_not(None))
    return sa.and_(mailings.c.kind == "production", sa.or_(mailings.c.state.in_(_SHOWN), begun))


_RELEASED = issues.join(mailings, sa.and_(mailings.c.issue_id == issues.c.id, _released()))


def mark(session: Session) -> str:
    """Another word whenever something that the public sees has changed; one statement."""
    changed = issues.c.changed_at
    row = session.execute(
        sa.select(
            sa.select(publication.c.changed_at).scalar_subquery(),
            sa.func.count(),
            sa.func.max(changed),
            # Of two issues that were stored in one millisecond, each counts.
            sa.func.sum(changed),
            sa.func.max(mailings.c.started_at),
        ).select_from(_RELEASED)
    ).one()
    return "-".join(map(str, row))


def archive(session: Session) -> Archive:
    """All released issues with those of their articles that have an approved text, in two statements."""
    released = session.execute(
        sa.select(issues.c.id, issues.c.week, mailings.c.started_at, mailings.c.created_at).select_from(_RELEASED)
    ).all()
    listed: dict[int, list[ListedArticle]] = defaultdict(list)
    weeks = {row.id: Week.parse(row.week) for row in released}
    columns = (
        articles.c.id,
        articles.c.issue_id,
        articles.c.slug,
        articles.c.section,
        articles.c.trend,
        articles.c.aliases,
    )
    titles: dict[int, dict[str, str]] = defaultdict(dict)
    changed: dict[int, int] = defaultdict(int)
    rows = session.execute(
        sa.select(*columns, texts.c.language, texts.c.title, texts.c.changed_at)
        .select_from(_RELEASED.join(articles, articles.c.issue_id == issues.c.id).join(texts))
        .where(texts.c.status == TextStatus.APPROVED.value)
        .order_by(articles.c.issue_id, articles.c.position, texts.c.language)
    ).all()
    for row in rows:
        titles[row.id][row.language] = row.title
        changed[row.id] = max(changed[row.id], row.changed_at)
    for row in {row.id: row for row in rows}.values():
        trend = Trend(row.trend) if row.trend else None
        listed[row.issue_id].append(
            ListedArticle(
                weeks[row.issue_id],
                row.slug,
                row.section,
                trend,
                titles[row.id],
                loaded(changed[row.id]),
                aliases=tuple(row.aliases or ()),
            )
        )
    found = (
        ReleasedIssue(weeks[row.id], loaded(row.started_at or row.created_at), tuple(listed[row.id]))
        for row in released
        if listed[row.id]
    )
    return Archive.of(found)


def picture(session: Session, week: Week, name: str) -> Asset | None:
    """A file that an approved text of a released issue names; None where there is none, or none to be seen yet."""
    named = sa.exists(
        sa.select(texts.c.id)
        .join(articles, articles.c.id == texts.c.article_id)
        .where(
            articles.c.issue_id == issues.c.id,
            texts.c.status == TextStatus.APPROVED.value,
            texts.c.body.contains(name, autoescape=True),
        )
    )
    row = session.execute(
        sa.select(assets.c.name, assets.c.media_type, assets.c.data)
        .select_from(_RELEASED.join(assets, assets.c.issue_id == issues.c.id))
        .where(issues.c.week == str(week), assets.c.name == name, named)
    ).one_or_none()
    return None if row is None else Asset(row.name, row.media_type, bytes(row.data))


def newest(session: Session) -> Week | None:
    """The week of the newest released issue that has an approved text; None where there is none yet."""
    readable = sa.exists(
        sa.select(texts.c.id)
        .join(articles, articles.c.id == texts.c.article_id)
        .where(articles.c.issue_id == issues.c.id, texts.c.status == TextStatus.APPROVED.value)
    )
    chosen = sa.select(issues.c.week).select_from(_RELEASED).where(readable).order_by(issues.c.week.desc()).limit(1)
    found = session.scalar(chosen)
    return None if found is None else Week.parse(found)


def languages(session: Session, week: Week) -> frozenset[str]:
    """The languages of a released issue's approved texts: a chain that has one of them has an edition of it."""
    approved = (
        sa.select(texts.c.language)
        .select_from(_RELEASED.join(articles, articles.c.issue_id == issues.c.id).join(texts))
        .where(issues.c.week == str(week), texts.c.status == TextStatus.APPROVED.value)
        .distinct()
    )
    return frozenset(session.execute(approved).scalars())
