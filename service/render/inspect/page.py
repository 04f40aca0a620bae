"""Reads HTML as a mail program would: its headings, its links, and all that it would load."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import SplitResult, urlsplit

# Attributes whose address is fetched without a click. `href` is one only on link, base and SVG's use and image.
_FETCHING = {"src", "srcset", "background", "poster", "data", "lowsrc", "dynsrc", "manifest", "xlink:href"}
_FETCHING_HREF = {"link", "base", "use", "image"}
_CSS_ADDRESS = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", re.IGNORECASE)
# Carried by the mail itself.
_INSIDE = ("cid:", "data:")


@dataclass(frozen=True, slots=True)
class Page:
    """What a page holds, in order: texts of its headings, targets of its links, addresses it loads."""

    headings: tuple[tuple[int, str], ...]
    links: tuple[str, ...]
    loads: tuple[str, ...]


@dataclass(slots=True)
class _Found:
    headings: list[tuple[int, str]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self, found: _Found) -> None:
        super().__init__(convert_charrefs=True)
        self.found = found
        self._heading: list[str] | None = None
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if re.fullmatch(r"h[1-6]", tag):
            self._heading = []
        self._in_style = tag == "style"
        if tag == "a" and values.get("href"):
            self.found.links.append(values["href"])
        for name, value in values.items():
            if name == "srcset":
                self.found.loads += [part.split()[0] for part in value.split(",") if part.split()]
            elif name in _FETCHING or (name == "href" and tag in _FETCHING_HREF):
                self.found.loads.append(value)
            elif name == "style":
                self._css(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._heading is not None and re.fullmatch(r"h[1-6]", tag):
            self.found.headings.append((int(tag[1]), " ".join("".join(self._heading).split())))
            self._heading = None
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._heading is not None:
            self._heading.append(data)
        if self._in_style:
            self._css(data)

    def handle_comment(self, data: str) -> None:
        # Outlook reads what others take for a comment.
        if data.startswith("[if"):
            inner = _Reader(_Found())
            inner.feed(data.partition(">")[2])
            self.found.loads += inner.found.loads

    def _css(self, css: str) -> None:
        self.found.loads += [match[1] or match[2] for match in _CSS_ADDRESS.finditer(css)]


def read_page(html: str) -> Page:
    """The headings (level and words), links and loaded addresses of `html`, those in Outlook's comments too."""
    reader = _Reader(_Found())
    reader.feed(html)
    reader.close()
    found = reader.found
    return Page(tuple(found.headings), tuple(found.links), tuple(found.loads))


def foreign_loads(page: Page, base_url: str) -> tuple[str, ...]:
    """What `page` would load from another host than that of `base_url`, each once. Links are not loads."""
    return tuple(dict.fromkeys(address for address in page.loads if _foreign(address.strip(), urlsplit(base_url))))


def _foreign(address: str, own: SplitResult) -> bool:
    if address.lower().startswith(_INSIDE):
        return False
    try:
        parts = urlsplit(address)
    except ValueError:
        return True
    if not (parts.scheme or parts.netloc):
        return False
    return (parts.scheme or own.scheme, parts.netloc.lower()) != (own.scheme, own.netloc.lower())
