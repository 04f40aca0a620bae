"""The pages that lead to issues and articles: the first page, the archive by year, a section with its history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from service.domain.archive import Archive, ReleasedIssue
from service.domain.content import Edition, Section
from service.render.addresses import Addresses
from service.render.dates import week_range
from service.render.markdown_html import WEB_ISSUE
from service.render.site import Site, frame, periodical
from service.render.trends import listed_view, trend_line, trend_table
from service.render.web_issue import page_view

# Half a year: as much as a table and a drawing hold before they must be scrolled for long.
NEWEST = 26
_EARLIER = 8


@dataclass(frozen=True, slots=True)
class YearLink:
    """A year of a list; None is the newest weeks, whatever their year."""

    year: int | None
    url: str
    current: bool


def render_home(site: Site, archive: Archive, newest: Edition | None, language: str) -> str:
    """The newest issue in brief, the weeks before, the sections, and the way to a subscription."""
    framed = frame(
        site,
        language,
        Addresses.home,
        description=site.publication.taglines[language],
        default=f"{site.out.base}/",
        data={"@type": "WebSite", "name": site.title(language), "publisher": periodical(site, language)},
    )
    view = page_view(site, newest, WEB_ISSUE, site.here) if newest else None
    articles = zip(view.articles, newest.articles, strict=True) if view and newest else ()
    return site.render(
        "home",
        framed,
        view=view,
        articles=[(article, site.here.article(language, shown.article)) for article, shown in articles],
        earlier=[
            (week_range(issue.week, language), site.here.issue(language, issue.week))
            for issue in archive.issues[1 : 1 + _EARLIER]
        ],
        sections=_sections(site, archive, language),
    )


def _sections(site: Site, archive: Archive, language: str) -> list[tuple[str, str]]:
    """Titles and addresses of the sections that have something to read."""
    used = {article.section for issue in archive.issues for article in issue.articles}
    return [
        (section.titles[language], site.here.section(language, section.key))
        for section in site.publication.sections
        if section.key in used
    ]


def render_archive(site: Site, archive: Archive, language: str, year: int | None) -> str:
    """The issues of a year, or the newest ones, as a table of weeks and sections with their trends."""
    issues: Sequence[ReleasedIssue] = archive.year(year) if year else archive.issues[:NEWEST]
    words = site.words(language)
    name = f"{words('All issues')}, {year}" if year else words("All issues")
    framed = frame(
        site,
        language,
        partial(Addresses.archive, year=year),
        description=f"{name}. {site.publication.taglines[language]}",
        data={"@type": "CollectionPage", "name": name, "isPartOf": periodical(site, language)},
    )
    years = [YearLink(None, site.here.archive(language), year is None)]
    years += [YearLink(one, site.here.archive(language, one), one == year) for one in archive.years()]
    return site.render("archive", framed, name=name, table=trend_table(site, issues, language), years=years)


def render_section(site: Site, archive: Archive, section: Section, language: str, year: int | None) -> str:
    """A section: how the situation moved, as a drawing and as a table of its articles."""
    everything = archive.section(section.key)
    articles = [article for article in everything if article.week.year == year] if year else everything[:NEWEST]
    title = section.titles[language]
    name = f"{title}, {year}" if year else title
    framed = frame(
        site,
        language,
        partial(Addresses.section, key=section.key, year=year),
        description=f"{name}. {site.publication.taglines[language]}",
        section=section.key,
        data={"@type": "CollectionPage", "name": name, "isPartOf": periodical(site, language)},
    )
    years = [YearLink(None, site.here.section(language, section.key), year is None)]
    years += [
        YearLink(one, site.here.section(language, section.key, one), one == year)
        for one in dict.fromkeys(article.week.year for article in everything)
    ]
    return site.render(
        "section",
        framed,
        name=name,
        articles=[listed_view(site, article, language) for article in articles],
        line=trend_line(site, articles, language),
        years=years,
    )


def render_privacy(site: Site, language: str) -> str:
    """What is known about readers and what is not."""
    name = site.words(language)("Privacy")
    framed = frame(
        site,
        language,
        Addresses.privacy,
        description=site.words(language)("Emails and pages load nothing from other companies."),
        data={"@type": "WebPage", "name": name, "isPartOf": periodical(site, language)},
    )
    return site.render("privacy", framed)
