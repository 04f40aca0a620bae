"""What the public may read, as lists show it: released issues with their articles' titles and trends, without texts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from service.domain.content import Trend
from service.domain.weeks import Week


@dataclass(frozen=True, slots=True)
class ListedArticle:
    """An article of a released issue; `titles` are those of its approved texts, of which it has at least one.

    `shadowed` is one whose permalink leads to a newer article of the same section and slug; `aliases` are slugs that it
    had before, the very first one first.
    """

    week: Week
    slug: str
    section: str
    trend: Trend | None
    titles: Mapping[str, str]
    changed_at: dt.datetime
    shadowed: bool = False
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReleasedIssue:
    """An issue whose mailing has begun, with at least one article."""

    week: Week
    released_at: dt.datetime
    articles: tuple[ListedArticle, ...]

    @property
    def changed_at(self) -> dt.datetime:
        """When it last became what it is now: by its release or by a corrected text."""
        return max(self.released_at, *(article.changed_at for article in self.articles))

    def languages(self, offered: Collection[str]) -> tuple[str, ...]:
        """Those of `offered` in which at least one of its articles can be read."""
        return tuple(code for code in offered if any(code in article.titles for article in self.articles))


@dataclass(frozen=True, slots=True)
class Archive:
    """All released issues, the newest first."""

    issues: tuple[ReleasedIssue, ...]

    @classmethod
    def of(cls, issues: Iterable[ReleasedIssue]) -> Archive:
        """The archive of these issues, which may come in any order."""
        seen: set[tuple[str, str]] = set()
        ordered = []
        for issue in sorted(issues, key=lambda issue: issue.week, reverse=True):
            articles = tuple(replace(one, shadowed=(one.section, one.slug) in seen) for one in issue.articles)
            seen.update((one.section, one.slug) for one in articles)
            ordered.append(replace(issue, articles=articles))
        return cls(tuple(ordered))

    def issue(self, week: Week) -> ReleasedIssue | None:
        """That week's issue; None where it is not there for the public."""
        return next((issue for issue in self.issues if issue.week == week), None)

    def years(self) -> tuple[int, ...]:
        """The years that have issues, by their ISO weeks, the newest first."""
        return tuple(dict.fromkeys(issue.week.year for issue in self.issues))

    def year(self, year: int) -> tuple[ReleasedIssue, ...]:
        """The issues of one year."""
        return tuple(issue for issue in self.issues if issue.week.year == year)

    def section(self, key: str) -> tuple[ListedArticle, ...]:
        """The articles of one section, the newest week first."""
        return tuple(article for issue in self.issues for article in issue.articles if article.section == key)

    def article(self, slug: str, section: str) -> ListedArticle | None:
        """The newest article of that slug in that section."""
        return next((article for article in self.section(section) if article.slug == slug), None)

    def renamed(self, slug: str, section: str) -> ListedArticle | None:
        """The newest article of that section that had that slug before."""
        return next((article for article in self.section(section) if slug in article.aliases), None)
