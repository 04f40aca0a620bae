"""An edition as its templates see it: every word chosen, every address built, nothing left to decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from service.domain.content import Edition, Publication, ShownArticle, Trend
from service.domain.errors import ConfigurationError
from service.domain.weeks import Week
from service.render.addresses import Addresses
from service.render.catalogue import Catalogue, Catalogues
from service.render.dates import direction, week_range
from service.render.fragments import Fragments
from service.render.markdown_html import MAIL, Dress, body_html
from service.render.markdown_text import body_text
from service.render.pictures import PlacedImage
from service.render.tokens import SYMBOLS

_NOTE = "This commentary is not yet available {in_own}. It is shown {in_shown}."


@dataclass(frozen=True, slots=True)
class LanguageLink:
    """Something in another language, by that language's own name."""

    code: str
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class TrendView:
    """One step of the scale, in the edition's language."""

    key: str
    symbol: str
    long: str
    short: str


@dataclass(frozen=True, slots=True)
class ArticleView:
    """One article; `foreign` where its text is not in the edition's language, and then `note` says so.

    `text` is the body of a mail's plain part, and empty for pages.
    """

    number: int
    slug: str
    section: str
    language: str
    direction: str
    foreign: bool
    title: str
    lead: str
    trend: TrendView | None
    note: str | None
    note_html: Markup | None
    html: Markup
    text: str
    byline: str | None
    url: str
    others: tuple[LanguageLink, ...]


@dataclass(frozen=True, slots=True)
class EditionView:
    """The whole edition."""

    language: str
    direction: str
    title: str
    tagline: str
    range: str
    week: Week
    browser: str
    articles: tuple[ArticleView, ...]
    languages: tuple[LanguageLink, ...]
    chain: str
    postal_address: str


def edition_view(
    edition: Edition,
    catalogues: Catalogues,
    addresses: Addresses,
    *,
    dress: Dress,
    images: Mapping[str, PlacedImage],
    fragments: Fragments | None = None,
) -> EditionView:
    """What the templates show of `edition`; raises ConfigurationError for a word that the publication lacks.

    Bodies that `fragments` holds are taken from there.
    """
    language = edition.language
    words = catalogues[language]
    publication, week = edition.publication, edition.issue.week
    desk = _Desk(edition, catalogues, addresses, dress, images, fragments or Fragments())
    with_text = {code for article in edition.issue.articles for code in article.approved()}
    return EditionView(
        language=language,
        direction=words.direction,
        title=_worded(publication.titles, language, "publication.toml: [title]"),
        tagline=_worded(publication.taglines, language, "publication.toml: [tagline]"),
        range=week_range(week, language),
        week=week,
        browser=addresses.issue(language, week),
        articles=tuple(_article(number, shown, desk) for number, shown in enumerate(edition.articles, start=1)),
        languages=tuple(
            LanguageLink(code, catalogues[code].own_name(), addresses.issue(code, week))
            for code in publication.languages
            if code != language and code in with_text
        ),
        chain=", ".join(words.language_name(code) for code in edition.chain.languages),
        postal_address=publication.postal_address,
    )


def file_urls(edition: Edition, addresses: Addresses, language: str) -> dict[str, str]:
    """Where the files of the issue's folder are served, by name."""
    folder = addresses.issue(language, edition.issue.week)
    return {asset.name: folder + asset.name for asset in edition.issue.assets}


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every article of one edition is made with."""

    edition: Edition
    catalogues: Catalogues
    addresses: Addresses
    dress: Dress
    images: Mapping[str, PlacedImage]
    fragments: Fragments


def _article(number: int, shown: ShownArticle, desk: _Desk) -> ArticleView:
    edition, catalogues, addresses = desk.edition, desk.catalogues, desk.addresses
    language, text, article = edition.language, shown.text, shown.article
    words = catalogues[language]
    section = edition.publication.section(article.section)
    if section is None:
        raise ConfigurationError(
            f'article {article.slug} stands in section "{article.section}", which publication.toml lacks'
        )
    files = file_urls(edition, addresses, text.language)
    return ArticleView(
        number=number,
        slug=article.slug,
        section=_worded(section.titles, language, f"publication.toml: titles of section {section.key}"),
        language=text.language,
        direction=direction(text.language),
        foreign=text.language != language,
        title=text.title,
        lead=text.lead,
        trend=trend_view(edition.publication, article.trend, language) if article.trend else None,
        note=words(_NOTE, **_note_values(words, text.language)) if shown.fallback else None,
        note_html=_note_html(words, text.language, desk.dress) if shown.fallback else None,
        html=desk.fragments.markup(
            (text.content_hash, desk.dress, desk.images, files),
            lambda: body_html(text.body, desk.dress, desk.images, files),
        ),
        text=body_text(text.body, files, picture=words("Picture")) if desk.dress is MAIL else "",
        byline=_byline(words, article.authors),
        url=addresses.article(text.language, article),
        others=tuple(
            LanguageLink(code, catalogues[code].own_name(), addresses.article(code, article)) for code in shown.others
        ),
    )


def trend_view(publication: Publication, trend: Trend, language: str) -> TrendView:
    """The words of `trend` in that language, from the publication's scale."""
    wording = publication.trends.get(trend)
    if wording is None:
        raise ConfigurationError(f"publication.toml: [trend] has no words for {trend.value}; add them")
    where = f"publication.toml: [trend] {trend.value}"
    long, short = (_worded(by, language, where) for by in (wording.long, wording.short))
    return TrendView(trend.value, SYMBOLS[trend], long, short)


def _note_values(words: Catalogue, shown: str) -> dict[str, str]:
    return {"in_own": words.in_language(words.language), "in_shown": words.in_language(shown)}


def _note_html(words: Catalogue, shown: str, dress: Dress) -> Markup:
    # `па-руску` is one word: a line must not end after its hyphen. A page's policy allows no inline style.
    how = 'style="white-space:nowrap"' if dress is MAIL else 'class="unbroken"'
    span = Markup(f"<span {how}>{{}}</span>")  # noqa: S704 - one of the two above
    return words.html(_NOTE, **{name: span.format(value) for name, value in _note_values(words, shown).items()})


def _byline(words: Catalogue, authors: tuple[str, ...]) -> str | None:
    if not authors:
        return None
    return words.counted("Author: {names}", "Authors: {names}", len(authors), names=", ".join(authors))


def _worded(by_language: Mapping[str, str], language: str, where: str) -> str:
    found = by_language.get(language)
    if not found:
        raise ConfigurationError(f"{where}: no words in {language}; add them")
    return found
