"""The addresses of a publication's pages, as mails and pages link to them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from service.domain.archive import ListedArticle
from service.domain.content import Article, Publication
from service.domain.errors import InvalidInputError
from service.domain.slots import MARKERS, Slot
from service.domain.weeks import Week


@dataclass(frozen=True, slots=True)
class Addresses:
    """Builds absolute URLs below `base`, which has no slash at its end."""

    base: str
    publication: Publication

    @classmethod
    def of(cls, publication: Publication, base_url: str) -> Addresses:
        """The addresses below `base_url`; raises InvalidInputError for one that is not http or https."""
        if not base_url.startswith(("https://", "http://")):
            raise InvalidInputError(f'base URL "{base_url}" is not absolute; set TYDZEN_BASE_URL to https://…')
        return cls(base_url.rstrip("/"), publication)

    @classmethod
    def here(cls, publication: Publication) -> Addresses:
        """The same without scheme and host, for links inside the site: they also lead somewhere on a mirror of it."""
        return cls("", publication)

    def home(self, language: str) -> str:
        """The site's first page."""
        return f"{self.base}/{language}/"

    def issue(self, language: str, week: Week) -> str:
        """An issue to read in the browser; its images lie below."""
        return f"{self.base}/{language}/issues/{week}/"

    def section(self, language: str, key: str, year: int | None = None) -> str:
        """A section's page, or that of one of its years."""
        section = self.publication.section(key)
        slug = section.slugs.get(language, key) if section else key
        return f"{self.base}/{language}/{quote(slug)}/" + (f"{year}/" if year else "")

    def listed(self, language: str, article: ListedArticle) -> str:
        """Where a list leads: the permalink, or the place in its issue where that belongs to a newer article by now."""
        if article.shadowed:
            return self.place(language, article.week, article.slug)
        return self.article(language, article)

    def place(self, language: str, week: Week, slug: str) -> str:
        """Where an article stands on its issue's page."""
        return f"{self.issue(language, week)}#{quote(slug)}"

    def article(self, language: str, article: Article | ListedArticle) -> str:
        """The permalink of an article in one language."""
        return self.section(language, article.section) + quote(article.slug)

    def card(self, language: str, week: Week | None = None, slug: str | None = None) -> str:
        """The picture of an article, of an issue, or of the publication where neither is named."""
        path = "/".join(quote(part) for part in (language, str(week or ""), slug or "") if part)
        return f"{self.base}/cards/{path}.png"

    def archive(self, language: str, year: int | None = None) -> str:
        """All issues, or those of one year."""
        return f"{self.base}/{language}/issues/" + (f"{year}/" if year else "")

    def feed(self, language: str, section: str | None = None) -> str:
        """The Atom feed of all issues, or of the articles of one section."""
        return (self.section(language, section) if section else self.home(language)) + "feed.xml"

    def subscribe(self, language: str) -> str:
        """Where a reader signs up."""
        return f"{self.base}/{language}/subscribe"

    def stylesheet(self) -> str:
        """The one stylesheet of all pages."""
        return f"{self.base}/static/style.css"

    def privacy(self, language: str) -> str:
        """What is known about readers and what is not."""
        return f"{self.base}/{language}/privacy"

    def confirmation(self, token: str, language: str) -> str:
        """Where a sign-up is confirmed."""
        return f"{self.base}/c/{token}?lang={language}"

    def request(self, token: str, language: str) -> str:
        """Where a reader does what takes a fresh link."""
        return f"{self.base}/r/{token}?lang={language}"

    def unsubscribe(self, language: str, token: str = MARKERS[Slot.UNSUBSCRIBE]) -> str:
        """The way out, as a page in that language; without a token the marker's address, whose place one takes.

        The header for one click names no language: its page is not read.
        """
        return f"{self.base}/u/{token}?lang={language}"

    def preferences(self, token: str = MARKERS[Slot.PREFERENCES]) -> str:
        """The reader's own page; without a token the marker's address, whose place a token takes in each letter."""
        return f"{self.base}/p/{token}"
