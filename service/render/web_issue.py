"""An edition as a page of the publication's site: what "Read in browser" opens. No script, nothing from elsewhere."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from service.domain.content import Article, Edition
from service.domain.errors import NotFoundError
from service.domain.weeks import Week
from service.render.addresses import Addresses
from service.render.edition import used_assets
from service.render.markdown_html import WEB_ARTICLE, WEB_ISSUE, Dress
from service.render.pictures import place_linked
from service.render.preheader import preheader
from service.render.site import Site, frame, periodical
from service.render.view import ArticleView, EditionView, edition_view


def render_web_issue(site: Site, edition: Edition, *, released_at: dt.datetime, shadowed: Collection[str] = ()) -> str:
    """`edition` as a complete HTML page, with no marker and nothing about a reader in it.

    `shadowed` are the slugs whose permalink leads to a newer issue's article: links to these lead to their place here.
    Raises as `render_edition` does.
    """
    language, week = edition.language, edition.issue.week
    view = page_view(site, edition, WEB_ISSUE, site.here)
    view = replace(view, articles=tuple(_in_place(site, each, week, shadowed) for each in view.articles))
    framed = frame(
        site,
        language,
        partial(Addresses.issue, week=week),
        offered=_with_text(site, edition.issue.articles),
        card=partial(Addresses.card, week=week),
        description=preheader(view, ""),
        kind="article",
        data={
            "@type": "PublicationIssue",
            "name": f"{view.title}, {view.range}",
            "issueNumber": str(week),
            "datePublished": released_at.date().isoformat(),
            "isPartOf": periodical(site, language),
            "hasPart": [
                {"@type": "Article", "headline": article.title, "inLanguage": article.language, "url": address}
                for article, address in zip(view.articles, _addresses(site, edition, shadowed), strict=True)
            ],
        },
    )
    return site.render("issue", framed, view=view, released=released_at.date().isoformat())


def _in_place(site: Site, view: ArticleView, week: Week, shadowed: Collection[str]) -> ArticleView:
    if view.slug not in shadowed:
        return view
    others = tuple(replace(other, url=site.here.place(other.code, week, view.slug)) for other in view.others)
    return replace(view, url=site.here.place(view.language, week, view.slug), others=others)


def _addresses(site: Site, edition: Edition, shadowed: Collection[str]) -> list[str]:
    return [
        site.out.place(shown.text.language, edition.issue.week, shown.article.slug)
        if shown.article.slug in shadowed
        else site.out.article(shown.text.language, shown.article)
        for shown in edition.articles
    ]


def render_web_article(
    site: Site, edition: Edition, slug: str, *, released_at: dt.datetime, changed_at: dt.datetime
) -> str:
    """One article of `edition` as a page of its own; where its text is not in the page's language, it says so.

    Raises as `render_edition` does, and NotFoundError for a slug that is not in the edition.
    """
    shown = next((each for each in edition.articles if each.article.slug == slug), None)
    if shown is None:
        raise NotFoundError(f"issue {edition.issue.week} shows no article {slug}")
    language, article = edition.language, shown.article
    whole = page_view(site, replace(edition, articles=(shown,)), WEB_ARTICLE, site.here)
    (view,) = whole.articles
    framed = frame(
        site,
        language,
        partial(Addresses.article, article=article),
        offered=_with_text(site, [article]),
        card=partial(Addresses.card, week=edition.issue.week, slug=article.slug),
        description=view.lead,
        kind="article",
        section=article.section,
        data=_article_data(site, view, article, language)
        | {
            "datePublished": released_at.date().isoformat(),
            "dateModified": changed_at.date().isoformat(),
            "isPartOf": {
                "@type": "PublicationIssue",
                "issueNumber": str(edition.issue.week),
                "url": site.out.issue(view.language, edition.issue.week),
                "isPartOf": periodical(site, view.language),
            },
        },
    )
    return site.render(
        "article",
        framed,
        article=view,
        whole=whole,
        section_url=site.here.section(language, article.section),
        released=released_at.date().isoformat(),
    )


def _with_text(site: Site, articles: Iterable[Article]) -> list[str]:
    """The languages in which at least one of these articles can be read."""
    approved = {code for article in articles for code in article.approved()}
    return [code for code in site.publication.languages if code in approved]


def _article_data(site: Site, view: ArticleView, article: Article, language: str) -> dict[str, Any]:
    data: dict[str, Any] = {
        "@type": "Article",
        "headline": view.title,
        "description": view.lead,
        "articleSection": view.section,
        "publisher": {"@type": "Organization", "name": site.title(language)},
    }
    if article.authors:
        data["author"] = [{"@type": "Person", "name": name} for name in article.authors]
    return data


def page_view(site: Site, edition: Edition, dress: Dress, addresses: Addresses) -> EditionView:
    """The edition as pages and feeds show it: its pictures stay on the site."""
    folder = addresses.issue(edition.language, edition.issue.week)
    images = place_linked(used_assets(edition), folder_url=folder).placed
    return edition_view(
        edition, site.templates.catalogues, addresses, dress=dress, images=images, fragments=site.fragments
    )
