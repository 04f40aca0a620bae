"""What is published: the publication, its issues, articles and texts, and an issue read through one chain."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.chains import Chain
from service.domain.weeks import Week


class Trend(StrEnum):
    """How the situation in a section moved in the week."""

    WORSE = "worse"
    SAME = "same"
    BETTER = "better"


class TextStatus(StrEnum):
    """How far a text is; only an approved one is ever shown or sent."""

    EMPTY = "empty"
    DRAFT = "draft"
    READY = "ready"
    APPROVED = "approved"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading that recurs every week; retired ones keep their past articles."""

    key: str
    titles: Mapping[str, str]
    slugs: Mapping[str, str]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    active_from: Week | None = None
    active_until: Week | None = None

    def active(self, week: Week) -> bool:
        """Whether articles of `week` may stand in this section."""
        return (self.active_from is None or self.active_from <= week) and (
            self.active_until is None or week <= self.active_until
        )


@dataclass(frozen=True, slots=True)
class TrendWording:
    """The words of one step of the trend scale, per language."""

    long: Mapping[str, str]
    short: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Publication:
    """The weekly itself. Mappings of words are keyed by language code, in the order of `languages`."""

    key: str
    timezone: str
    base_url: str
    languages: tuple[str, ...]
    sender: str
    reply_to: str | None
    operators: tuple[str, ...] = field(repr=False)
    list_id: str
    postal_address: str
    titles: Mapping[str, str]
    taglines: Mapping[str, str]
    subjects: Mapping[str, str]
    sections: tuple[Section, ...]
    trends: Mapping[Trend, TrendWording]
    week_start: str = "monday"

    def section(self, key: str) -> Section | None:
        """The section of that key, retired or not."""
        return next((section for section in self.sections if section.key == key), None)


@dataclass(frozen=True, slots=True)
class Text:
    """An article in one language. `body` is Markdown; `translated_from` is the hash of the source it was made from."""

    language: str
    title: str
    lead: str
    body: str
    status: TextStatus = TextStatus.DRAFT
    translated_from: str | None = None

    @property
    def content_hash(self) -> str:
        """SHA-256 in hex over title, lead and body: what a translation is made from and a revision is known by."""
        parts = f"{self.title}\x00{self.lead}\x00{self.body}"
        return hashlib.sha256(parts.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Article:
    """One commentary of an issue, shared by all languages; `aliases` are slugs it had before, the very first first."""

    slug: str
    section: str
    source: str
    trend: Trend | None = None
    authors: tuple[str, ...] = ()
    texts: Mapping[str, Text] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def approved(self) -> dict[str, Text]:
        """The texts that may be shown, by language."""
        return {language: text for language, text in self.texts.items() if text.status is TextStatus.APPROVED}

    def stale(self, language: str) -> bool:
        """Whether that translation was made from a source that has changed since (or from one it does not name: no)."""
        text, source = self.texts.get(language), self.texts.get(self.source)
        if text is None or source is None or language == self.source or text.translated_from is None:
            return False
        return text.translated_from != source.content_hash


@dataclass(frozen=True, slots=True)
class Asset:
    """An image of the issue's folder."""

    name: str
    media_type: str
    data: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the octets, in hex."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class Issue:
    """One week's number: articles in their order, texts in all languages, images."""

    week: Week
    articles: tuple[Article, ...]
    subjects: Mapping[str, str] = field(default_factory=dict)
    assets: tuple[Asset, ...] = ()

    def asset(self, name: str) -> Asset | None:
        """The image of that file name."""
        return next((asset for asset in self.assets if asset.name == name), None)


@dataclass(frozen=True, slots=True)
class ShownArticle:
    """An article as one edition shows it: in `text.language`, which may be a fallback."""

    article: Article
    text: Text
    fallback: bool
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edition:
    """An issue as read through one chain."""

    publication: Publication
    issue: Issue
    chain: Chain
    articles: tuple[ShownArticle, ...]

    @property
    def language(self) -> str:
        """The language of everything but the articles' own texts."""
        return self.chain.first


def edition(publication: Publication, issue: Issue, chain: Chain) -> Edition | None:
    """`issue` through `chain`: article by article the first language with an approved text.

    Articles with nothing in the chain are left out; None where that leaves none.
    """
    shown: list[ShownArticle] = []
    for article in issue.articles:
        approved = article.approved()
        language = chain.shown(approved)
        if language is None:
            continue
        others = tuple(code for code in publication.languages if code in approved and code != language)
        shown.append(ShownArticle(article, approved[language], language != chain.first, others))
    return Edition(publication, issue, chain, tuple(shown)) if shown else None


def editions(publication: Publication, issue: Issue, chains: Sequence[Chain]) -> dict[Chain, Edition]:
    """The edition of each chain that has one."""
    found = {chain: edition(publication, issue, chain) for chain in chains}
    return {chain: made for chain, made in found.items() if made is not None}
