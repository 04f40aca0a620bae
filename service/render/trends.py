"""Trends over weeks: a table of weeks and sections, and the line of one section with its points in a drawing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.domain.archive import ListedArticle, ReleasedIssue
from service.domain.content import Section, Trend
from service.render.dates import direction, week_range
from service.render.site import Site
from service.render.view import TrendView, trend_view

# Of the drawing, in its own units: it is as wide as its place.
WIDTH, HEIGHT = 624, 132
_EDGE = 22
_ROWS = {Trend.BETTER: 24, Trend.SAME: 66, Trend.WORSE: 108}


@dataclass(frozen=True, slots=True)
class ListedView:
    """An article in a list; `foreign` where its title is not in the page's language."""

    url: str
    title: str
    language: str
    direction: str
    foreign: bool
    section: str
    range: str
    issue_url: str
    trend: TrendView | None


@dataclass(frozen=True, slots=True)
class WeekRow:
    """One week of the table: for each section its articles, of which there may be none."""

    range: str
    url: str
    cells: tuple[tuple[ListedView, ...], ...]


@dataclass(frozen=True, slots=True)
class TrendTable:
    """Weeks by sections; `columns` are titles and addresses of sections."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[WeekRow, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One article in the drawing."""

    x: int
    y: int
    trend: TrendView


@dataclass(frozen=True, slots=True)
class TrendLine:
    """The drawing of one section, oldest week on the left, and what it shows in numbers: each step and how often."""

    points: tuple[Point, ...]
    first: str
    last: str
    counts: tuple[tuple[TrendView, int], ...]

    @property
    def path(self) -> str:
        """The line through the points, as SVG writes it."""
        return " ".join(f"{point.x},{point.y}" for point in self.points)


def listed_view(site: Site, article: ListedArticle, language: str) -> ListedView:
    """The article as a list in `language` shows it."""
    shown = site.chain(language).shown(article.titles)
    assert shown is not None, "an article without a text is in no list"
    section = site.publication.section(article.section)
    return ListedView(
        url=site.here.listed(language, article),
        title=article.titles[shown],
        language=shown,
        direction=direction(shown),
        foreign=shown != language,
        section=section.titles[language] if section else article.section,
        range=week_range(article.week, language),
        issue_url=site.here.issue(language, article.week),
        trend=trend_view(site.publication, article.trend, language) if article.trend else None,
    )


def trend_table(site: Site, issues: Sequence[ReleasedIssue], language: str) -> TrendTable:
    """The table of these issues, with the sections that have an article in any of them."""
    used = {article.section for issue in issues for article in issue.articles}
    columns = [section for section in site.publication.sections if section.key in used]
    return TrendTable(
        columns=tuple((column.titles[language], site.here.section(language, column.key)) for column in columns),
        rows=tuple(_row(site, issue, columns, language) for issue in issues),
    )


def _row(site: Site, issue: ReleasedIssue, columns: Iterable[Section], language: str) -> WeekRow:
    return WeekRow(
        range=week_range(issue.week, language),
        url=site.here.issue(language, issue.week),
        cells=tuple(
            tuple(listed_view(site, article, language) for article in issue.articles if article.section == column.key)
            for column in columns
        ),
    )


def trend_line(site: Site, articles: Sequence[ListedArticle], language: str) -> TrendLine | None:
    """The drawing of these articles, the newest of which comes first; None where fewer than two have a trend."""
    rated = [(article, article.trend) for article in reversed(articles) if article.trend]
    if len(rated) < 2:
        return None
    step = (WIDTH - 2 * _EDGE) / (len(rated) - 1)
    views = {trend: trend_view(site.publication, trend, language) for trend in Trend}
    counted = Counter(trend for _, trend in rated)
    return TrendLine(
        points=tuple(
            Point(round(_EDGE + step * place), _ROWS[trend], views[trend]) for place, (_, trend) in enumerate(rated)
        ),
        first=week_range(rated[0][0].week, language),
        last=week_range(rated[-1][0].week, language),
        counts=tuple((views[trend], counted[trend]) for trend in _ROWS),
    )
