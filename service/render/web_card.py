"""What stands on the cards of the site: of an article, of an issue, of the publication."""

from __future__ import annotations

from service.domain.archive import ListedArticle, ReleasedIssue
from service.render.card import Card, Line, draw
from service.render.dates import week_range
from service.render.site import Site
from service.render.view import trend_view


def article_card(site: Site, article: ListedArticle, language: str) -> bytes:
    """The card of an article that has a text in that language, as PNG."""
    section = site.publication.section(article.section)
    trend = trend_view(site.publication, article.trend, language) if article.trend else None
    return draw(
        Card(
            heading=article.titles[language],
            foot=f"{site.title(language)} · {week_range(article.week, language)}",
            label=section.titles[language] if section else "",
            badge=Line(article.trend, trend.long) if trend else None,
        )
    )


def issue_card(site: Site, issue: ReleasedIssue, language: str) -> bytes:
    """The card of an issue: its week and the titles that can be read in that language, with their trends."""
    titles = [Line(one.trend, one.titles[language]) for one in issue.articles if language in one.titles]
    return draw(Card(heading=week_range(issue.week, language), foot=site.title(language), lines=titles))


def publication_card(site: Site, language: str) -> bytes:
    """The card of every other page: the publication's title, its tagline and its languages by their own names."""
    names = " · ".join(site.words(code).own_name() for code in site.publication.languages)
    return draw(Card(heading=site.title(language), foot=names, text=site.publication.taglines[language]))
