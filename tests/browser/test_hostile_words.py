"""Hostile words in every field that reaches a page or a mail: nothing of them runs, and nobody else is asked."""

import http.client
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

import feedparser
import pytest
from playwright.sync_api import Error

from service.domain.chains import Chain
from service.domain.content import Article, Trend, TrendWording, edition
from service.domain.weeks import Week
from service.render.edition import render_edition
from service.render.notice import render_notice
from service.render.templates import load_templates
from service.store import issues
from service.store import publication as publications
from tests.browser.payloads import PAYLOADS
from tests.browser.pictures import BASE, opened, reader_notices, sample, shown
from tests.browser.reading import LANGUAGES, own_pages, release, served
from tests.unit.render.samples import text

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_AT_ONCE = 101
WEEKS = [Week.parse("2019-W23").shifted(number) for number in range(-(-len(PAYLOADS) // _AT_ONCE))]
CHAINS = (Chain(("en",)), Chain(("be", "en")), Chain(("ru", "be", "en")))
COUNTING = "window.ran = 0; window.alert = () => { window.ran += 1 }"
# Every element is pointed at and looked at, every link is read, and data for search engines must be data.
PROVOKED = """() => {
  for (const element of document.querySelectorAll("*")) {
    for (const kind of ["mouseover", "focus", "toggle", "load", "error"]) element.dispatchEvent(new Event(kind));
  }
  const addresses = [...document.querySelectorAll("[href], [src], [action], [formaction], [data]")];
  const named = addresses.flatMap(one => ["href", "src", "action", "formaction", "data"].map(name => one[name]));
  const schemes = named.filter(one => typeof one === "string" && one).map(one => one.split(":")[0]);
  const scripts = [...document.scripts];
  scripts.filter(one => one.type === "application/ld+json").forEach(one => JSON.parse(one.textContent));
  return {ran: window.ran, schemes: [...new Set(schemes)], scripts: [...new Set(scripts.map(one => one.type))]};
}"""
HARMLESS = {"http", "https", "mailto", "data", "cid"}


def mixed(number, parts):
    """Every `parts`-th of all payloads in one line, beginning with another one for each number."""
    return " ".join(PAYLOADS[number::parts])


def hostile_publication():
    """The sample publication: in each language all payloads stand in titles, taglines, sections and trends."""
    publication, _issue = sample()
    sections = [
        replace(section, titles={code: mixed(5 * place + at, 15) for place, code in enumerate(LANGUAGES)})
        for at, section in enumerate(publication.sections)
    ]
    trends = {
        trend: TrendWording(
            **{
                form: {code: mixed(6 * place + 2 * at + short, 18) for place, code in enumerate(LANGUAGES)}
                for short, form in enumerate(("long", "short"))
            }
        )
        for at, trend in enumerate(Trend)
    }
    return replace(
        publication,
        titles={code: mixed(place, 3) for place, code in enumerate(LANGUAGES)},
        taglines={code: mixed(place, 3) for place, code in enumerate(LANGUAGES)},
        postal_address=" ".join(PAYLOADS),
        sections=tuple(sections),
        trends=trends,
    )


def hostile_issue(part):
    """An issue with an article for each payload of that part, which is its title, lead, body and author."""
    _publication, issue = sample()
    words = list(enumerate(PAYLOADS))[part * _AT_ONCE : (part + 1) * _AT_ONCE]
    articles = tuple(
        Article(f"hostile-{number}", "west", "en", list(Trend)[number % 3], (one,), {"en": text("en", one, one, one)})
        for number, one in words
    )
    return replace(issue, week=WEEKS[part], articles=articles, subjects={"en": words[0][1]}, assets=())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), earlier=0) as made:
        now = made.parts.clock.now()
        with made.parts.database.begin() as session:
            publications.save(session, hostile_publication(), now)
            for part, week in enumerate(WEEKS):
                issues.save(session, hostile_issue(part), now)
                release(session, week, now)
        yield made


@pytest.fixture
def window(running, site):
    """A window whose pages obey no policy, so that escaping alone protects them, and what it asks other hosts for."""
    context = running.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    foreign = []
    context.on("request", lambda request: request.url.startswith(site.base) or foreign.append(request.url))
    context.add_init_script(COUNTING)
    yield context.new_page()
    context.close()
    assert foreign == []


def provoke(page, where):
    found = page.evaluate(PROVOKED)
    assert found["ran"] == 0, where
    assert set(found["schemes"]) <= HARMLESS, where
    assert set(found["scripts"]) <= {"application/ld+json"}, where


def test_the_browser_would_notice_most_of_these_words_if_they_were_not_escaped(running):
    noticed = 0
    some = PAYLOADS[::23]
    for one in some:
        with shown(running, one, 600) as (page, asked):
            page.wait_for_timeout(1)
            try:
                found = page.evaluate(PROVOKED)
            except Error:  # the page has gone elsewhere, or its data was none: that is noticing
                noticed += 1
            else:
                noticed += bool(asked or found["ran"] or set(found["schemes"]) - HARMLESS or found["scripts"])
    assert noticed > len(some) // 2


def test_no_page_runs_or_loads_any_of_them(site, window):
    for language in LANGUAGES:
        slug = {"en": "west", "be": "zachad", "ru": "zapad"}[language]
        paths = ["", "issues/", "issues/2019/", "privacy", "none/of/these", "subscribe", f"{slug}/", f"{slug}/2019/"]
        paths += [f"issues/{week}/" for week in WEEKS]
        for path in paths:
            window.goto(f"{site.base}/{language}/{path}")
            provoke(window, (language, path))


class Elements(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.names = set(), set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.names.update(f"{tag} {name}" for name, _value in attrs)


def test_an_article_of_each_of_them_has_the_elements_of_any_other_and_no_more(site, window):
    connection = http.client.HTTPConnection(urlsplit(site.base).netloc)

    def page(slug):
        connection.request("GET", f"/en/west/{slug}")
        answer = connection.getresponse()
        assert answer.status == 200
        return Elements(answer.read().decode())

    plain = page("short-stays")
    of_markdown = {"p", "em", "strong", "code", "a", "blockquote", "ul", "ol", "li", "h2", "h3"}
    for number in range(len(PAYLOADS)):
        found = page(f"hostile-{number}")
        assert found.tags <= plain.tags | of_markdown, number
        assert {name for name in found.names if " on" in name or "style" in name} <= plain.names, number
        if number % 30 == 0:
            window.goto(f"{site.base}/en/west/hostile-{number}")
            provoke(window, number)
    connection.close()


def test_the_form_gives_back_what_was_typed_and_no_more(site, window):
    connection = http.client.HTTPConnection(urlsplit(site.base).netloc)

    def answered(words):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/en/subscribe", urlencode({"address": words, "language": "en"}), form)
        answer = connection.getresponse()
        assert answer.status == 422
        return answer.read().decode()

    for one in PAYLOADS:
        found = Elements(answered(one))
        assert not found.tags & {"script", "img", "svg", "iframe", "style", "base", "video", "object"}, one
        assert not [name for name in found.names if " on" in name], one
    for start in range(0, len(PAYLOADS), 100):
        words = " ".join(PAYLOADS[start : start + 100])
        window.goto(f"{site.base}/en/privacy")
        window.set_content(answered(words))
        provoke(window, start)
    connection.close()


def test_no_page_behind_a_link_of_a_mail_runs_or_loads_any_of_them(site, window):
    for language in LANGUAGES:
        paths = own_pages(site, language)
        for name, path in paths.items():
            window.goto(site.base + path)
            provoke(window, (language, name))
        answers = {
            "languages": {"change": "languages", "language": language},
            "no languages": {"change": "languages", "language": mixed(0, 3)},
            "text": {"change": "text", "text_only": "1"},
            "no day": {"change": "pause", "until": PAYLOADS[3][:20]},
            "resume": {"change": "resume"},
            "request": {"change": "request", "purpose": "data"},
            "purpose": {"change": "request", "purpose": mixed(1, 3)},
            "change": {"change": mixed(2, 3)},
        }
        for name, form in answers.items():
            answer = window.request.post(site.base + paths["preferences"], form=form)
            window.goto(f"{site.base}/{language}/privacy")
            window.set_content(answer.text())
            provoke(window, (language, name))


def test_the_form_of_a_new_address_gives_back_what_was_typed_and_no_more(site, window):
    path = own_pages(site, "be")["request-address"]
    for start in range(len(PAYLOADS)):
        words = PAYLOADS[start]
        answer = window.request.post(site.base + path, form={"address": f"{words}@"})
        assert answer.status == 422
        found = Elements(answer.text())
        assert not found.tags & {"script", "img", "svg", "iframe", "style", "base", "video", "object"}, words
        assert not [name for name in found.names if " on" in name], words
        if start % 30 == 0:
            window.goto(f"{site.base}/be/privacy")
            window.set_content(answer.text())
            provoke(window, words)


def test_what_a_browser_says_of_itself_changes_nothing_and_comes_back_nowhere(site):
    connection = http.client.HTTPConnection(urlsplit(site.base).netloc)

    def answered(path, headers):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, told, answer.read()

    paths = ("/en/", "/be/privacy", "/ru/none/of/these", own_pages(site, "ru")["preferences"])
    plain = {path: answered(path, {}) for path in paths}
    names = ("User-Agent", "Accept-Language", "Referer", "X-Forwarded-For", "X-Forwarded-Host", "Origin", "Cookie")
    for number, words in enumerate(PAYLOADS):
        # What no client can put into a header is left out of it.
        line = "".join(letter for letter in words if letter.isprintable()).encode()
        path = paths[number % len(paths)]
        status, told, body = answered(path, dict.fromkeys(names, line))
        assert (status, body) == (plain[path][0], plain[path][2]), words
        assert told.keys() == plain[path][1].keys(), words
        assert not [value for value in told.values() if "alert" in value or "evil" in value], words
    connection.close()


def test_no_feed_gives_any_of_them_to_its_reader(site, window):
    for path in ("en/feed.xml", "be/zachad/feed.xml"):
        read = feedparser.parse(window.request.get(f"{site.base}/{path}").body(), sanitize_html=False)
        assert not read.bozo
        for entry in read.entries:
            window.goto(f"{site.base}/en/privacy")
            window.set_content(entry.content[0].value)
            provoke(window, path)


def test_no_mail_runs_or_loads_any_of_them(running):
    catalogues, publication = load_templates().catalogues, hostile_publication()
    pages = {}
    for part, week in enumerate(WEEKS):
        for chain in CHAINS if part == 0 else CHAINS[:1]:
            made = edition(publication, hostile_issue(part), chain)
            pages[f"{week} {chain}"] = opened(render_edition(made, catalogues, base_url=BASE))
    for number, (kind, values) in enumerate(
        {
            "mailing-trouble": {"week": "2019-W22", "problem": " ".join(PAYLOADS)},
            "issue-blocked": {
                "week": "2019-W22",
                "slot": " ".join(PAYLOADS),
                "findings": [("be", one, one) for one in PAYLOADS],
            },
            "slot-missed": {"week": "2019-W22", "slot": " ".join(PAYLOADS)},
        }.items()
    ):
        notice = render_notice(
            kind, LANGUAGES[number], values, publication=publication, base_url=BASE, catalogues=catalogues
        )
        pages[kind] = notice.html
    for language in LANGUAGES:
        pages |= {f"{kind} {language}": html for kind, html in reader_notices(language, publication).items()}
    for name, page in pages.items():
        with shown(running, page, 600) as (shown_page, asked):
            provoke(shown_page, name)
            assert asked == [], name
