"""A crawler that follows every link of every page, by GET and by HEAD, three times: it finds all and changes nothing."""

import http.client
import re
import xml.sax
from collections import deque
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

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
    with served(tmp_path_factory.mktemp("site"), earlier=8) as made:
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
        assert page.canonical == site.base + path or not page.alternates, path
    for path, tag in tags.items():
        assert ask(connection, "GET", path, **{"If-None-Match": tag})[0] == 304, path
    connection.close()


def same_site(site, link):
    return link.startswith(f"{site.base}/")


@pytest.mark.parametrize("path", ["/be/feed.xml", "/ru/vlast/feed.xml"])
def test_a_feed_is_atom_to_a_parser_that_knows_nothing_of_us(site, path):
    connection = http.client.HTTPConnection(urlsplit(site.base).netloc)
    status, headers, body = ask(connection, "GET", path)
    connection.close()
    read = Feed(body)
    assert status == 200
    assert headers["content-type"].startswith("application/atom+xml")
    assert read.root == ("feed", "http://www.w3.org/2005/Atom")
    assert len(read.ids) == len(set(read.ids)) > 5
    assert all(one.startswith("tag:") for one in read.ids)
