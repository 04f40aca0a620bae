"""What all pages of the site share: what they are printed with, and the frame in which each says what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.domain.chains import Chain
from service.domain.content import Publication
from service.render.addresses import Addresses
from service.render.card import legible
from service.render.catalogue import Catalogue
from service.render.fragments import Fragments
from service.render.preheader import shortened
from service.render.templates import Templates, load_templates
from service.render.view import LanguageLink

Address = Callable[[Addresses, str], str]
_SCHEMA = "https://schema.org"


@dataclass(frozen=True, slots=True)
class Site:
    """The publication as a site below `base_url`; links inside it name no host."""

    publication: Publication
    base_url: str
    templates: Templates = field(default_factory=load_templates)
    fragments: Fragments = field(default_factory=Fragments)

    @property
    def out(self) -> Addresses:
        """Absolute addresses: for search engines, feeds and other sites."""
        return Addresses.of(self.publication, self.base_url)

    @property
    def here(self) -> Addresses:
        """Addresses for links inside the site."""
        return Addresses.here(self.publication)

    def words(self, language: str) -> Catalogue:
        """The words of a language; raises ConfigurationError where there is no catalogue."""
        return self.templates.catalogues[language]

    def title(self, language: str) -> str:
        """The publication's title."""
        return self.publication.titles[language]

    def has_cards(self, language: str) -> bool:
        """Whether pictures can be made from words in that language."""
        return legible(self.title(language))

    def chain(self, language: str) -> Chain:
        """What a page in `language` shows of an article: its text in it, or else in the first other that has one."""
        return Chain((language, *(code for code in self.publication.languages if code != language)))

    def others(self, languages: Sequence[str], language: str, address: Address) -> tuple[LanguageLink, ...]:
        """Links to the same page in those of `languages` that are not this one."""
        return tuple(
            LanguageLink(code, self.words(code).own_name(), address(self.here, code))
            for code in languages
            if code != language
        )

    def render(self, template: str, frame: Frame, **values: object) -> str:
        """The page in its frame."""
        return self.templates.render(
            f"web/{template}.html",
            t=self.words(frame.language),
            frame=frame,
            language=frame.language,
            title=self.title(frame.language),
            tagline=self.publication.taglines[frame.language],
            postal_address=self.publication.postal_address,
            to=self.here,
            out=self.out,
            **values,
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """What a page says of itself to browsers and search engines.

    `alternates` are the languages in which it exists, itself included, and empty for a page that stands in for one of
    them; `default` is where who reads none of them is sent.
    """

    language: str
    description: str
    canonical: str
    alternates: tuple[tuple[str, str], ...]
    default: str | None
    others: tuple[LanguageLink, ...]
    kind: str
    data: Mapping[str, Any]
    section: str | None = None
    card: str | None = None


def frame(
    site: Site,
    language: str,
    address: Address,
    *,
    description: str,
    data: Mapping[str, Any],
    offered: Sequence[str] | None = None,
    default: str | None = None,
    kind: str = "website",
    section: str | None = None,
    card: Address = Addresses.card,
) -> Frame:
    """The frame of the page that `address` tells in each language, of which only `offered` have something of their own.

    `data` is what schema.org calls it (without language and address). A page in no offered language is a copy
    of the one in the first of them. `card` tells its picture in each language.
    """
    languages = tuple(site.publication.languages if offered is None else offered)
    own = language in languages
    real = language if own else languages[0]
    canonical = address(site.out, real)
    picture = card(site.out, real) if site.has_cards(real) else None
    if picture:
        data = {**data, "image": picture}
    return Frame(
        language=language,
        description=shortened(" ".join(description.split())),
        canonical=canonical,
        alternates=tuple((code, address(site.out, code)) for code in languages) if own else (),
        default=(default or address(site.out, languages[0])) if own else None,
        others=site.others(languages, language, address),
        kind=kind,
        data={"@context": _SCHEMA, **data, "inLanguage": real, "url": canonical},
        section=section,
        card=picture,
    )


def periodical(site: Site, language: str) -> dict[str, Any]:
    """The publication as schema.org names it."""
    return {"@type": "Periodical", "name": site.title(language), "url": site.out.home(language)}
