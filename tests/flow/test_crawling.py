"""A crawler that follows every link of every page, by GET and by HEAD, three times: it finds all and changes nothing."""

import http.client
import re
import xml.etree.ElementTree as ET
import xml.sax
from collections import deque
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import feedparser
import pytest
from sqlalchemy import select

from service.store.tables import metadata
from tests.browser.reading import served


class Links(HTMLParser):
    """The addresses of a page that a browser or a search engine follows, and its names in other languages."""

    def __init__(self, page):
        super().__init__()
        self.found, self.alternates, self.canonical = [], {}, None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        address = values.get("href") or values.get("src")
        if tag == "link" and values.get("rel") == "canonical":
            self.canonical = address
        if tag == "link" and "hreflang" in values:
            self.alternates[values["hreflang"]] = address
        if address and tag in ("a", "link", "img"):
            self.found.append(address)
        if tag == "meta" and values.get("property") == "og:image":
            self.found.append(values["content"])


class Feed(xml.sax.ContentHandler):
    """Atom or a sitemap as a parser reads it that knows nothing of how it was written."""

    def __init__(self, octets):
        super().__init__()
        self.root, self.links, self.ids, self._text = None, [], [], []
        xml.sax.parseString(octets, self)

    def startElement(self, name, attrs):  # noqa: N802 - the parser's name
        self.root = self.root or (name, attrs.get("xmlns"))
        self._text = []
        if name in ("link", "xhtml:link"):
            self.links.append(attrs["href"])

    def characters(self, content):
        self._text.append(content)

    def endElement(self, name):  # noqa: N802 - the parser's name
        if name == "loc":
            self.links.append("".join(self._text))
        if name == "id":
            self.ids.append("".join(self._text))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), earlier=5) as made:
        yield made


def ask(connection, method, path, **headers):
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def contents(parts):
    with parts.database.read() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }


# The sign-up has a test of its own.
ELSEWHERE = re.compile(r"/\w+/subscribe")


@pytest.mark.slow
def test_every_link_leads_somewhere_three_times_and_the_database_stays_as_it_was(site):
    connection = http.client.HTTPConnection(urlsplit(site.base).netloc)
    before = contents(site.parts)
    pages, waiting, tags = {}, deque(["/", "/sitemap.xml", "/robots.txt"]), {}
    while waiting:
        path = waiting.popleft()
        if path in pages or ELSEWHERE.fullmatch(path):
            continue
        pages[path] = None
        for _ in range(3):
            status, headers, body = ask(connection, "GET", path)
            head, head_headers, nothing = ask(connection, "HEAD", path)
            assert (head, nothing) == (status, b""), path
            assert head_headers["content-type" if status == 200 else "location"], path
            assert "set-cookie" not in headers
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["content-security-policy"].startswith("default-src 'none'")
        assert status in (200, 307), (path, status)
        if status == 307:
            waiting.append(urlsplit(urljoin(site.base + path, headers["location"])).path)
            continue
        kind = headers["content-type"].partition(";")[0]
        links = []
        if kind == "text/html":
            pages[path] = Links(body.decode())
            links = pages[path].found
            assert len(body) < 50_000, path
        elif kind in ("application/atom+xml", "application/xml"):
            links = Feed(body).links
        if kind != "text/css" and "etag" in headers:
            tags[path] = headers["etag"]
        waiting += [
            urlsplit(link).path for link in (urljoin(site.base + path, link) for link in links) if same_site(site, link)
        ]
    assert contents(site.parts) == before
    assert len(pages) > 150
    read = {path: page for path, page in pages.items() if page}
    for path, page in read.items():
        for code, url in page.alternates.items():
            other = read.get(urlsplit(url).path)
            if code != "x-default":
                assert other is not None, (path, url)
                assert other.alternates == page.alternates, (path, url)
                assert other.canonical == url
            else:
                assert urlsplit(url).path == "/" or url in page.alternates.values(), (path, url)
        assert not page.alternates or "x-default" in page.alternates, path
        assert page.canonical == site.base + path or not page.alternates, path
    for path, tag in tags.items():
        assert ask(connection, "GET", path, **{"If-None-Match": tag})[0] == 304, path
    connection.close()


def same_site(site, link):
    return link.startswith(f"{site.base}/")


FEEDS = [f"/{language}/{slug}feed.xml" for language, slug in (("en", ""), ("be", ""), ("ru", ""), ("ru", "vlast/"))]


@pytest.mark.parametrize("path", FEEDS)
def test_a_feed_is_atom_to_a_parser_that_knows_nothing_of_us(site, path):
    connection = http.client.HTTPConnection(urlsplit(site.base).netloc)
    status, headers, body = ask(connection, "GET", path)
    connection.close()
    assert status == 200
    assert headers["content-type"].startswith("application/atom+xml")
    read = feedparser.parse(body, response_headers={"content-location": site.base + path, **headers})
    # What is not well-formed, or not of the type and encoding that the header says, is "bozo".
    assert not read.bozo, read.get("bozo_exception")
    assert read.version == "atom10"
    assert read.feed.language == path.split("/")[1]
    assert read.feed.updated_parsed
    assert site.base + path in [link.href for link in read.feed.links if link.rel == "self"]
    ids = [read.feed.id, *(entry.id for entry in read.entries)]
    assert len(ids) == len(set(ids)) > 5
    assert all(re.fullmatch(r"tag:weekly\.news\.example\.org,2019:ahliad/[\w/.-]+", one) for one in ids)
    for entry in read.entries:
        assert entry.title
        assert entry.link.startswith(f"{site.base}/{path.split('/')[1]}/")
        assert entry.published_parsed <= entry.updated_parsed <= read.feed.updated_parsed
        (content,) = entry.content
        # The full text: lead, body and all.
        assert content.type == "text/html"
        assert len(content.value) > 150


def test_the_sitemap_keeps_to_its_protocol(site):
    """By sitemaps.org and by what it says of alternates: fifty thousand addresses, absolute, each group complete."""
    connection = http.client.HTTPConnection(urlsplit(site.base).netloc)
    _status, headers, body = ask(connection, "GET", "/sitemap.xml")
    connection.close()
    assert headers["content-type"].startswith("application/xml")
    assert len(body) < 50_000_000
    space = {"s": "http://www.sitemaps.org/schemas/sitemap/0.9", "x": "http://www.w3.org/1999/xhtml"}
    root = ET.fromstring(body)
    assert root.tag == f"{{{space['s']}}}urlset"
    groups = {}
    for url in root:
        assert [child.tag.split("}")[1] for child in url if child.tag.startswith(f"{{{space['s']}}}")] in (
            ["loc"],
            ["loc", "lastmod"],
        )
        place = url.find("s:loc", space).text
        assert place.startswith(f"{site.base}/")
        for day in url.findall("s:lastmod", space):
            assert re.fullmatch(r"\d{4}-\d\d-\d\d", day.text)
        assert place not in groups
        groups[place] = {link.get("hreflang"): link.get("href") for link in url.findall("x:link", space)}
    assert 100 < len(groups) < 50_000
    for place, group in groups.items():
        assert place in group.values()
        assert all(groups[other] == group for other in group.values()), place
