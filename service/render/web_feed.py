"""Atom feeds (RFC 4287) with full texts, and the sitemap with its alternates (sitemaps.org, version 0.9)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from service.domain.archive import Archive, ListedArticle, ReleasedIssue
from service.domain.content import Edition, Section
from service.render.addresses import Addresses
from service.render.dates import week_range
from service.render.markdown_html import WEB_ISSUE
from service.render.site import Address, Site
from service.render.typography import without_controls
from service.render.view import EditionView
from service.render.web_issue import page_view

# Of a tag URI (RFC 4151): a day on which the publication's name was its own. It never changes, nor does what follows.
_SINCE = "2019"


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One entry; `language` is that of its title, and `view` holds the articles of its content."""

    id: str
    title: str
    language: str
    url: str
    published: str
    updated: str
    authors: tuple[str, ...]
    view: EditionView


def render_feed(site: Site, issues: Sequence[tuple[ReleasedIssue, Edition]], language: str) -> str:
    """The feed of whole issues in a language."""
    entries = [
        FeedEntry(
            id=_id(site, language, str(released.week)),
            title=week_range(released.week, language),
            language=language,
            url=site.out.issue(language, released.week),
            published=_instant(released.released_at),
            updated=_instant(released.changed_at),
            authors=(),
            view=page_view(site, edition, WEB_ISSUE, site.out),
        )
        for released, edition in issues
    ]
    return _feed(site, language, site.title(language), None, entries)


def render_section_feed(
    site: Site, section: Section, articles: Sequence[tuple[ListedArticle, ReleasedIssue, Edition]], language: str
) -> str:
    """The feed of one section's articles in a language; each comes with the edition that it stands in."""
    entries = []
    for listed, released, edition in articles:
        shown = tuple(each for each in edition.articles if each.article.slug == listed.slug)
        view = page_view(site, replace(edition, articles=shown), WEB_ISSUE, site.out)
        entries.append(
            FeedEntry(
                # By the slug that it came out under: a reader who has it does not get it again.
                id=_id(site, language, f"{listed.week}/{(*listed.aliases, listed.slug)[0]}"),
                title=view.articles[0].title,
                language=view.articles[0].language,
                url=site.out.listed(language, listed),
                published=_instant(released.released_at),
                updated=_instant(max(released.released_at, listed.changed_at)),
                authors=shown[0].article.authors,
                view=view,
            )
        )
    name = f"{site.title(language)}: {section.titles[language]}"
    return _feed(site, language, name, section.key, entries)


def _feed(site: Site, language: str, name: str, section: str | None, entries: Sequence[FeedEntry]) -> str:
    xml = site.templates.render(
        "web/feed.xml",
        t=site.words(language),
        language=language,
        name=name,
        author=site.title(language),
        tagline=site.publication.taglines[language],
        id=_id(site, language, *([section] if section else [])),
        own=site.out.feed(language, section),
        page=site.out.section(language, section) if section else site.out.home(language),
        updated=max((entry.updated for entry in entries), default=f"{_SINCE}-01-01T00:00:00Z"),
        entries=entries,
        # An entry of these has several articles, each with its headline; else the headline is the entry's title.
        whole_issues=section is None,
    )
    return without_controls(xml)


def _id(site: Site, *path: str) -> str:
    """Of the list's name, which never changes: the site may move to another host, and nothing comes twice."""
    return f"tag:{site.publication.list_id},{_SINCE}:{'/'.join((site.publication.key, *path))}"


def _instant(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Place:
    """A page of the sitemap in all its languages, and the day of its last change."""

    addresses: tuple[tuple[str, str], ...]
    changed: str | None


def render_sitemap(site: Site, archive: Archive) -> str:
    """Every page that is worth finding, in each language in which it exists."""
    return site.templates.render("web/sitemap.xml", places=list(_places(site, archive)))


def _places(site: Site, archive: Archive) -> Iterable[Place]:
    everywhere = site.publication.languages

    def place(address: Address, changed: dt.datetime | None, languages: Iterable[str] = everywhere) -> Place:
        day = changed.date().isoformat() if changed else None
        return Place(tuple((code, address(site.out, code)) for code in languages), day)

    newest = max((issue.changed_at for issue in archive.issues), default=None)
    yield place(Addresses.home, newest)
    yield place(Addresses.archive, newest)
    yield place(Addresses.privacy, None)
    for year in archive.years():
        changed = max(issue.changed_at for issue in archive.year(year))
        yield place(partial(Addresses.archive, year=year), changed)
    for section in site.publication.sections:
        if found := archive.section(section.key):
            changed = max(article.changed_at for article in found)
            yield place(partial(Addresses.section, key=section.key), changed)
            for year in dict.fromkeys(article.week.year for article in found):
                changed = max(article.changed_at for article in found if article.week.year == year)
                yield place(partial(Addresses.section, key=section.key, year=year), changed)
    for issue in archive.issues:
        languages = issue.languages(everywhere)
        yield place(partial(Addresses.issue, week=issue.week), issue.changed_at, languages)
        for article in issue.articles:
            if not article.shadowed:
                yield place(
                    partial(Addresses.article, article=article),
                    max(issue.released_at, article.changed_at),
                    [code for code in everywhere if code in article.titles],
                )
