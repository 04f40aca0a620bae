"""Issues with their articles, texts, revisions and images: read in few statements, written by difference."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.domain.content import Article, Asset, Issue, Text, TextStatus, Trend
from service.domain.errors import NotFoundError
from service.domain.mailing import MailingState
from service.domain.weeks import Week
from service.store.database import Session
from service.store.instants import loaded, stored
from service.store.tables import articles, assets, issues, mailings, revisions, texts


@dataclass(frozen=True, slots=True)
class IssueSummary:
    """One line of a list of issues. `sendable` articles have an approved text; `mailing` is where sending stands."""

    week: Week
    articles: int
    sendable: int
    texts: Mapping[str, Mapping[TextStatus, int]]
    stale: int
    mailing: MailingState | None
    changed_at: dt.datetime


@dataclass(frozen=True, slots=True)
class RevisionSummary:
    """One earlier or present content of a text."""

    number: int
    content_hash: str
    made_at: dt.datetime


def find_id(session: Session, week: Week) -> int | None:
    """The id of that week's issue; None where there is none."""
    found = session.scalar(sa.select(issues.c.id).where(issues.c.week == str(week)))
    return None if found is None else int(found)


def issue_id(session: Session, week: Week) -> int:
    """As `find_id`; raises NotFoundError where there is none."""
    found = find_id(session, week)
    if found is None:
        raise NotFoundError(f"there is no issue {week}; tydzen issue list shows those there are")
    return found


def week_of(session: Session, issue: int) -> Week:
    """The week of an issue's id; raises NotFoundError for an unknown id."""
    week = session.scalar(sa.select(issues.c.week).where(issues.c.id == issue))
    if week is None:
        raise NotFoundError(f"there is no issue with id {issue}")
    return Week.parse(week)


def hold(session: Session, week: Week) -> int | None:
    """As `find_id`, and until this transaction ends no other may change the issue or begin to send it."""
    # SQLite has one writer anyway and leaves the lock out.
    found = session.scalar(sa.select(issues.c.id).where(issues.c.week == str(week)).with_for_update())
    return None if found is None else int(found)


def sending_state(session: Session, week: Week) -> MailingState | None:
    """The state of the mailing that sends this issue to its readers; None where there is none yet."""
    state = session.scalar(
        sa.select(mailings.c.state)
        .join(issues, issues.c.id == mailings.c.issue_id)
        .where(issues.c.week == str(week), mailings.c.kind == "production")
    )
    return None if state is None else MailingState(state)


def load(session: Session, week: Week) -> Issue:
    """The issue of that week; raises NotFoundError where there is none."""
    found = find(session, week)
    if found is None:
        raise NotFoundError(f"there is no issue {week}; tydzen issue list shows those there are")
    return found


def find(session: Session, week: Week) -> Issue | None:
    """As `load`, but None where there is none."""
    row = session.execute(sa.select(issues).where(issues.c.week == str(week))).one_or_none()
    if row is None:
        return None
    written: dict[int, dict[str, Text]] = defaultdict(dict)
    for text in session.execute(
        sa.select(texts).join(articles).where(articles.c.issue_id == row.id).order_by(texts.c.language)
    ):
        written[text.article_id][text.language] = _text(text)
    return Issue(
        week=week,
        articles=tuple(
            Article(
                slug=article.slug,
                section=article.section,
                source=article.source,
                trend=Trend(article.trend) if article.trend else None,
                authors=tuple(article.authors),
                texts=written[article.id],
                aliases=tuple(article.aliases or ()),
            )
            for article in session.execute(
                sa.select(articles).where(articles.c.issue_id == row.id).order_by(articles.c.position)
            )
        ),
        subjects=row.subjects,
        assets=tuple(
            Asset(asset.name, asset.media_type, bytes(asset.data))
            for asset in session.execute(sa.select(assets).where(assets.c.issue_id == row.id).order_by(assets.c.name))
        ),
    )


def permalinks_before(session: Session, week: Week) -> dict[str, Week]:
    """Of the week's articles, by slug, those with the section and slug of one in an earlier issue: the latest such."""
    own, other, before = articles.alias(), articles.alias(), issues.alias()
    statement = (
        sa.select(own.c.slug, sa.func.max(before.c.week).label("week"))
        .join(issues, issues.c.id == own.c.issue_id)
        .join(other, sa.and_(other.c.section == own.c.section, other.c.slug == own.c.slug))
        .join(before, before.c.id == other.c.issue_id)
        .where(issues.c.week == str(week), before.c.week < str(week))
        .group_by(own.c.slug)
    )
    return {row.slug: Week.parse(row.week) for row in session.execute(statement)}


def overview(session: Session) -> list[IssueSummary]:
    """All issues, newest first, in three statements."""
    sending = {
        row.issue_id: MailingState(row.state)
        for row in session.execute(
            sa.select(mailings.c.issue_id, mailings.c.state).where(mailings.c.kind == "production")
        )
    }
    all_articles: dict[int, set[int]] = defaultdict(set)
    sendable: dict[int, set[int]] = defaultdict(set)
    counts: dict[int, dict[str, dict[TextStatus, int]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    stale: dict[int, int] = defaultdict(int)
    for row in session.execute(_text_states()):
        all_articles[row.issue_id].add(row.article_id)
        if row.language is not None:
            counts[row.issue_id][row.language][TextStatus(row.status)] += 1
            stale[row.issue_id] += bool(row.stale)
        if row.status == TextStatus.APPROVED.value:
            sendable[row.issue_id].add(row.article_id)
    return [
        IssueSummary(
            week=Week.parse(row.week),
            articles=len(all_articles[row.id]),
            sendable=len(sendable[row.id]),
            texts={language: dict(by_status) for language, by_status in sorted(counts[row.id].items())},
            stale=stale[row.id],
            mailing=sending.get(row.id),
            changed_at=loaded(row.changed_at),
        )
        for row in session.execute(sa.select(issues).order_by(issues.c.week.desc()))
    ]


def _text_states() -> sa.Select[Any]:
    source = texts.alias("source")
    return (
        sa.select(
            articles.c.issue_id,
            articles.c.id.label("article_id"),
            texts.c.language,
            texts.c.status,
            sa.and_(texts.c.language != articles.c.source, texts.c.translated_from != source.c.content_hash).label(
                "stale"
            ),
        )
        .select_from(articles)
        .outerjoin(texts, texts.c.article_id == articles.c.id)
        .outerjoin(source, sa.and_(source.c.article_id == articles.c.id, source.c.language == articles.c.source))
    )


def history(session: Session, week: Week, slug: str, language: str) -> list[RevisionSummary]:
    """The revisions of one text, newest first; empty for a text that does not exist."""
    rows = session.execute(
        sa.select(revisions.c.number, revisions.c.content_hash, revisions.c.made_at)
        .join(texts, texts.c.id == revisions.c.text_id)
        .join(articles, articles.c.id == texts.c.article_id)
        .join(issues, issues.c.id == articles.c.issue_id)
        .where(issues.c.week == str(week), articles.c.slug == slug, texts.c.language == language)
        .order_by(revisions.c.number.desc())
    )
    return [RevisionSummary(row.number, row.content_hash, loaded(row.made_at)) for row in rows]


def save(session: Session, issue: Issue, now: dt.datetime) -> bool:
    """Write what differs from the database; False where nothing does. Changed texts get a new revision."""
    issue_row = hold(session, issue.week)
    known = find(session, issue.week) if issue_row is not None else None
    if known == issue:
        return False
    if issue_row is None:
        values = {"week": str(issue.week), "subjects": dict(issue.subjects), "changed_at": stored(now)}
        issue_row = int(session.scalar(issues.insert().values(values).returning(issues.c.id)))
    else:
        values = {"subjects": dict(issue.subjects), "changed_at": stored(now)}
        session.execute(issues.update().where(issues.c.id == issue_row).values(values))
    ids = _save_articles(session, issue_row, issue.articles)
    _save_texts(session, ids, issue.articles, stored(now))
    _save_assets(session, issue_row, issue.assets)
    return True


def _save_articles(session: Session, issue: int, wanted: tuple[Article, ...]) -> dict[str, int]:
    """Write the articles; their ids by slug."""
    known = {row.slug: row for row in session.execute(sa.select(articles).where(articles.c.issue_id == issue))}
    gone = [row.id for slug, row in known.items() if slug not in {article.slug for article in wanted}]
    if gone:
        session.execute(articles.delete().where(articles.c.id.in_(gone)))
    new = []
    for position, article in enumerate(wanted):
        row = _article_row(article, position)
        before = known.get(article.slug)
        if before is None:
            new.append({"issue_id": issue, **row})
        elif any(getattr(before, name) != column for name, column in row.items()):
            session.execute(articles.update().where(articles.c.id == before.id).values(row))
    ids = {slug: int(row.id) for slug, row in known.items()}
    if new:
        made = session.execute(articles.insert().returning(articles.c.slug, articles.c.id), new)
        ids.update({row.slug: row.id for row in made})
    return ids


def _article_row(article: Article, position: int) -> dict[str, Any]:
    return {
        "slug": article.slug,
        "section": article.section,
        "position": position,
        "trend": article.trend.value if article.trend else None,
        "source": article.source,
        "authors": list(article.authors),
        "aliases": list(article.aliases) or None,
    }


def _save_texts(session: Session, ids: Mapping[str, int], wanted: tuple[Article, ...], now: int) -> None:
    known = {
        (row.article_id, row.language): row
        for row in session.execute(sa.select(texts).where(texts.c.article_id.in_(ids.values())))
    }
    new, revised = [], []
    for article in wanted:
        for text in article.texts.values():
            before = known.pop((ids[article.slug], text.language), None)
            if before is None:
                new.append({"article_id": ids[article.slug], **_text_row(text), "revision": 1, "changed_at": now})
            elif _text(before) != text:
                number = before.revision + (before.content_hash != text.content_hash)
                row = {**_text_row(text), "revision": number, "changed_at": now}
                session.execute(texts.update().where(texts.c.id == before.id).values(row))
                if number != before.revision:
                    revised.append(_revision_row(before.id, number, row, now))
    if known:
        session.execute(texts.delete().where(texts.c.id.in_([row.id for row in known.values()])))
    if new:
        by_key = {(row["article_id"], row["language"]): row for row in new}
        made = session.execute(texts.insert().returning(texts.c.id, texts.c.article_id, texts.c.language), new)
        revised += [_revision_row(row.id, 1, by_key[row.article_id, row.language], now) for row in made]
    if revised:
        session.execute(revisions.insert(), revised)


def _text(row: Any) -> Text:
    return Text(
        language=row.language,
        title=row.title,
        lead=row.lead,
        body=row.body,
        status=TextStatus(row.status),
        translated_from=row.translated_from,
    )


def _text_row(text: Text) -> dict[str, Any]:
    return {
        "language": text.language,
        "status": text.status.value,
        "title": text.title,
        "lead": text.lead,
        "body": text.body,
        "content_hash": text.content_hash,
        "translated_from": text.translated_from,
    }


def _revision_row(text: int, number: int, row: Mapping[str, Any], now: int) -> dict[str, Any]:
    content = {name: row[name] for name in ("title", "lead", "body", "content_hash")}
    return {"text_id": text, "number": number, "made_at": now, **content}


def _save_assets(session: Session, issue: int, wanted: tuple[Asset, ...]) -> None:
    known = {row.name: row for row in session.execute(sa.select(assets).where(assets.c.issue_id == issue))}
    for asset in wanted:
        row = {"name": asset.name, "media_type": asset.media_type, "data": asset.data}
        before = known.pop(asset.name, None)
        if before is None:
            session.execute(assets.insert().values(issue_id=issue, **row))
        elif (before.media_type, bytes(before.data)) != (asset.media_type, asset.data):
            session.execute(assets.update().where(assets.c.id == before.id).values(row))
    if known:
        session.execute(assets.delete().where(assets.c.id.in_([row.id for row in known.values()])))


def approve(session: Session, week: Week, language: str | None, now: dt.datetime) -> list[tuple[str, str]]:
    """Make the ready texts of the issue approved, in one language or in all; which ones, as (slug, language).

    Raises NotFoundError where there is no such issue.
    """
    issue = hold(session, week)
    if issue is None:
        raise NotFoundError(f"there is no issue {week}; tydzen issue list shows those there are")
    ready = session.execute(
        sa.select(texts.c.id, articles.c.slug, texts.c.language)
        .join(articles)
        .where(
            articles.c.issue_id == issue,
            texts.c.status == TextStatus.READY.value,
            sa.true() if language is None else texts.c.language == language,
        )
        .order_by(articles.c.position, texts.c.language)
    ).all()
    if ready:
        values = {"status": TextStatus.APPROVED.value, "changed_at": stored(now)}
        session.execute(texts.update().where(texts.c.id.in_([row.id for row in ready])).values(values))
        session.execute(issues.update().where(issues.c.id == issue).values(changed_at=stored(now)))
    return [(row.slug, row.language) for row in ready]
