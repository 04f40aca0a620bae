"""The publication's row and its sections. Operators' addresses are sealed here and opened here."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from service.domain.chains import Chain
from service.domain.content import Publication, Section, Trend, TrendWording
from service.domain.errors import NotFoundError
from service.domain.weeks import Week
from service.store.database import Session
from service.store.instants import stored
from service.store.sealing import normalised
from service.store.tables import articles, publication, sections, subscribers, texts

_ID = 1
# What the sealed operators are bound to: the one row of this table, in the length of every row id.
_ROW_ID = b"publication-1\0\0\0"


def save(session: Session, value: Publication, now: dt.datetime) -> bool:
    """Write the publication and its sections; False where the database holds the same already."""
    known = find(session)
    if known == value:
        return False
    row = {
        "key": value.key,
        "settings": _settings(value),
        "operators": session.sealer.seal(_ROW_ID, json.dumps(list(value.operators))),
        "changed_at": stored(now),
    }
    if known is None:
        session.execute(publication.insert().values(id=_ID, **row))
    else:
        session.execute(publication.update().where(publication.c.id == _ID).values(**row))
    _save_sections(session, value.sections)
    return True


def load(session: Session) -> Publication:
    """The publication; raises NotFoundError where none was imported yet."""
    found = find(session)
    if found is None:
        raise _missing()
    return found


def _missing() -> NotFoundError:
    return NotFoundError("there is no publication yet; import one: tydzen publication import DIR")


_SETTINGS = sa.select(publication.c.settings).where(publication.c.id == _ID)


def domain_of(sender: str) -> str:
    """The domain of a sender's address as headers, the envelope and DNS have it: in A-labels (RFC 5891).

    Raises InvalidInputError for one that cannot be written so.
    """
    return (sender if sender.isascii() else normalised(sender)).rpartition("@")[2]


def sender_domain(session: Session) -> str:
    """The domain of the publication's sender, as `domain_of` has it, without loading all of it; raises as `load`."""
    settings = session.scalar(_SETTINGS)
    if settings is None:
        raise _missing()
    return domain_of(settings["sender"])


def find(session: Session) -> Publication | None:
    """As `load`, but None where there is none."""
    row = session.execute(sa.select(publication).where(publication.c.id == _ID)).one_or_none()
    if row is None:
        return None
    settings: dict[str, Any] = row.settings
    return Publication(
        key=row.key,
        timezone=settings["timezone"],
        base_url=settings["base_url"],
        languages=tuple(settings["languages"]),
        sender=settings["sender"],
        reply_to=settings["reply_to"],
        operators=tuple(json.loads(session.sealer.open(_ROW_ID, row.operators))),
        list_id=settings["list_id"],
        postal_address=settings["postal_address"],
        titles=settings["titles"],
        taglines=settings["taglines"],
        subjects=settings["subjects"],
        sections=_load_sections(session),
        trends={Trend(step): TrendWording(words["long"], words["short"]) for step, words in settings["trends"].items()},
        week_start=settings["week_start"],
    )


def sections_in_use(session: Session) -> frozenset[str]:
    """The keys of the sections that have articles: these must stay in the publication, if retired."""
    return frozenset(row.section for row in session.execute(sa.select(articles.c.section).distinct()))


def languages_in_use(session: Session) -> frozenset[str]:
    """The languages that texts are written in or that readers chose: these must stay in the publication."""
    written = {row.language for row in session.execute(sa.select(texts.c.language).distinct())}
    chains = session.execute(sa.select(subscribers.c.chain).distinct())
    return frozenset(written.union(*(Chain(tuple(row.chain.split(","))).languages for row in chains)))


def _settings(value: Publication) -> dict[str, Any]:
    return {
        "timezone": value.timezone,
        "base_url": value.base_url,
        "languages": list(value.languages),
        "sender": value.sender,
        "reply_to": value.reply_to,
        "list_id": value.list_id,
        "postal_address": value.postal_address,
        "titles": dict(value.titles),
        "taglines": dict(value.taglines),
        "subjects": dict(value.subjects),
        "trends": {
            step.value: {"long": dict(words.long), "short": dict(words.short)} for step, words in value.trends.items()
        },
        "week_start": value.week_start,
    }


def _save_sections(session: Session, wanted: tuple[Section, ...]) -> None:
    known = {row.key: row for row in session.execute(sa.select(sections))}
    for position, section in enumerate(wanted):
        row = _section_row(section, position)
        before = known.pop(section.key, None)
        if before is None:
            session.execute(sections.insert().values(row))
        elif any(getattr(before, name) != column for name, column in row.items()):
            session.execute(sections.update().where(sections.c.id == before.id).values(row))
    if known:
        session.execute(sections.delete().where(sections.c.key.in_(known)))


def _section_row(section: Section, position: int) -> Mapping[str, Any]:
    return {
        "key": section.key,
        "position": position,
        "titles": dict(section.titles),
        "slugs": dict(section.slugs),
        "aliases": {language: list(slugs) for language, slugs in section.aliases.items()},
        "active_from": str(section.active_from) if section.active_from else None,
        "active_until": str(section.active_until) if section.active_until else None,
    }


def _load_sections(session: Session) -> tuple[Section, ...]:
    rows = session.execute(sa.select(sections).order_by(sections.c.position))
    return tuple(
        Section(
            key=row.key,
            titles=row.titles,
            slugs=row.slugs,
            aliases={language: tuple(slugs) for language, slugs in row.aliases.items()},
            active_from=Week.parse(row.active_from) if row.active_from else None,
            active_until=Week.parse(row.active_until) if row.active_until else None,
        )
        for row in rows
    )
