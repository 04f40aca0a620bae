import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import unescape

import pytest

from service.delivery.retention import KEEP_LINKS
from service.domain.content import Article, Text, TextStatus, Trend
from service.domain.mailing import MailingState
from service.domain.slots import MARKERS, Slot
from service.domain.tokens import CONFIRMATION_HOURS
from service.domain.weeks import Week
from service.render.templates import load_templates
from service.store import bounces, issues, mailings
from service.store import publication as publications
from service.web.pages import every_language
from tests.unit.render import samples
from tests.unit.web.parts import NOW, WEEK, add_reader, dump

ISSUE = "/en/issues/2019-W22/"
HOST = "http://localhost:8000"
ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.mark.parametrize("state", [MailingState.SENDING, MailingState.PAUSED, MailingState.SENT])
def test_an_issue_is_read_in_the_browser_once_its_mailing_has_begun(site, published, state):
    published(state)
    answer = site.get(ISSUE)
    assert answer.status_code == 200
    assert '<html lang="en"' in answer.text
    assert "The week" in answer.text or "The Week" in answer.text
    assert "/u/" not in answer.text


@pytest.mark.parametrize("state", [None, MailingState.SCHEDULED, MailingState.PLANNING, MailingState.CANCELLED])
def test_an_issue_that_was_not_released_is_not_there_nor_is_anything_of_it(site, published, state):
    if state is not None:
        published(state)
    gone = (
        ISSUE,
        ISSUE + "bridge.png",
        "/en/elite/council-drafts",
        "/en/elite/",
        "/en/elite/2019/",
        "/en/issues/2019/",
    )
    for path in gone:
        assert site.get(path).status_code == 404, path
    for path in ("/en/", "/en/issues/", "/en/feed.xml", "/en/elite/feed.xml", "/sitemap.xml"):
        answer = site.get(path)
        assert answer.status_code == 200
        assert "2019-W22" not in answer.text
        assert "council" not in answer.text


def test_nothing_of_a_draft_is_to_be_seen_in_an_issue_that_was_released(site, published, parts):
    hidden = {
        language: Text(language, f"Unseen {language}", "Unseen lead", "Unseen ![x](secret.png)", status)
        for language, status in (("en", TextStatus.DRAFT), ("be", TextStatus.READY), ("ru", TextStatus.EMPTY))
    }
    council, *rest = samples.articles()
    council = replace(council, texts={**council.texts, "ru": hidden["ru"]})
    draft = Article("unseen-article", "security", "en", Trend.WORSE, ("Unseen Author",), hidden)
    secret = replace(samples.issue().assets[0], name="secret.png")
    with parts.database.begin() as session:
        changed = samples.issue(articles=(council, *rest, draft))
        issues.save(session, replace(changed, assets=(*changed.assets, secret)), NOW)
    published(MailingState.SENT)
    assert site.get(ISSUE + "secret.png").status_code == 404
    assert site.get(ISSUE + "bridge.png").status_code == 200
    assert site.get("/en/security/unseen-article").status_code == 404
    seen = crawl(site)
    assert len(seen) > 30
    for path, answer in seen.items():
        assert "nseen" not in answer.text, path


def test_an_issue_cancelled_on_its_way_stays_readable_for_those_who_have_it(site, published, parts):
    published(MailingState.SENDING)
    with parts.database.begin() as session:
        found = mailings.of_issue(session, "2019-W22")
        mailings.move(session, found.id, MailingState.SENDING, now=NOW)
        mailings.move(session, found.id, MailingState.CANCELLED, now=NOW)
    assert site.get(ISSUE).status_code == 200


def crawl(site, start="/"):
    """Every page that a link of any kind leads to, by its path; what answers with an error fails."""
    seen, waiting = {}, [start, "/sitemap.xml", "/robots.txt"]
    while waiting:
        path = waiting.pop()
        if path in seen or re.fullmatch(r"/\w+/subscribe", path):
            continue
        answer = seen[path] = site.get(path)
        if answer.is_redirect:
            waiting.append(answer.headers["location"].partition("#")[0])
            continue
        assert answer.status_code == 200, path
        if "html" in answer.headers["content-type"] or "xml" in answer.headers["content-type"]:
            waiting += local_links(answer.text)
    return seen


def local_links(text):
    found = re.findall(r'(?:href|src)="([^"#]*)', text) + re.findall(r"<loc>([^<]*)</loc>", text)
    paths = [link.removeprefix(HOST) for link in found]
    return [path for path in paths if path.startswith("/") and not path.startswith("//")]


def test_every_link_of_every_page_and_feed_leads_somewhere_in_the_site(site, published):
    published(MailingState.SENT)
    seen = crawl(site)
    wanted = {ISSUE, "/be/issues/2019-W22/", "/ru/issues/", "/en/privacy", "/be/feed.xml", "/static/style.css"}
    assert wanted | {"/en/", "/be/elite/", "/ru/society/2019/", "/en/issues/2019/"} <= set(seen)
    assert {ISSUE + "bridge.png", "/en/elite/council-drafts", "/ru/society/feed.xml"} <= set(seen)


def test_no_page_weighs_more_than_fifty_kilobytes(site, published):
    published(MailingState.SENT)
    for path, answer in crawl(site).items():
        if "html" in answer.headers.get("content-type", ""):
            assert len(answer.content) < 50_000, path


def test_the_one_stylesheet_weighs_less_than_fifteen_kilobytes_and_loads_nothing(site):
    answer = site.get("/static/style.css")
    assert answer.headers["content-type"].startswith("text/css")
    assert 1_000 < len(answer.content) < 15_000
    assert not re.search(r"url\(|@import|@font-face", answer.text)


def test_an_image_is_served_with_its_type_and_may_run_nothing(site, published):
    published(MailingState.SENT)
    answer = site.get(ISSUE + "bridge.png")
    assert answer.content.startswith(b"\x89PNG")
    assert answer.headers["content-type"] == "image/png"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("wish", "language"),
    [
        ("be", "be"),
        ("ru;q=0.3, be;q=0.9", "be"),
        ("de, ru;q=0.1", "ru"),
        ("de", "en"),
        ("", "en"),
        ("be;q=0", "en"),
        ("ru-RU,ru", "ru"),
        ("\x00;q=nan", "en"),
    ],
)
def test_the_first_page_leads_to_the_language_that_the_browser_asks_for(site, published, wish, language):
    answer = site.get("/", headers={"Accept-Language": wish})
    assert answer.headers["location"] == f"/{language}/"
    assert answer.headers["vary"] == "Accept-Language"


def test_the_first_page_shows_the_newest_issue_in_brief_and_the_way_to_subscribe(site, published):
    published(MailingState.SENT)
    page = site.get("/be/").text
    assert "27 мая – 2 чэрвеня 2019" in page
    assert '<a href="/be/elite/council-drafts">Рада прымае два праекты з трох</a>' in page.replace("\u00a0", " ")
    assert "горш" in page
    assert 'href="/be/subscribe"' in page
    assert 'href="/be/issues/2019-W22/"' in page


def several_weeks(parts, count=30):
    """The sample issue and, before it, one article a week whose trend goes up and down."""
    trends = [Trend.BETTER, Trend.SAME, None, Trend.WORSE]
    with parts.database.begin() as session:
        for number in range(1, count + 1):
            week = WEEK.shifted(-number)
            text = samples.text("en", f"Week number {number}", "A lead.", "A body.")
            one = Article(f"before-{number}", "elite", "en", trends[number % 4], (), {"en": text})
            issues.save(session, samples.issue(week=week, articles=(one,), assets=()), NOW)
            mailings.create(
                session,
                str(week),
                state=MailingState.SENT,
                rate=None,
                audience="all",
                actor="test",
                release_at=None,
                now=NOW,
            )


def test_the_archive_shows_by_year_how_each_section_moved_with_symbol_and_word(site, published, parts):
    published(MailingState.SENT)
    several_weeks(parts)
    page = site.get("/ru/issues/2019/").text
    table = page[page.index("<table") : page.index("</table>")]
    heads = re.findall(r'<th scope="col">(?:<a[^>]*>)?([^<]*)', table)
    assert heads == ["Неделя", "Правящая элита", "Вопросы безопасности", "Общество и\u00a0политические партии"]
    assert len(re.findall(r'<th scope="row">', table)) == 22
    first = table[table.index("<tbody>") :].partition("</tr>")[0]
    assert re.findall(r"<span aria-hidden=\"true\">(.)</span>&nbsp;([^<]*)</a>", first) == [
        ("▼", "хуже"),
        ("●", "без изменений"),
        ("▲", "лучше"),
    ]
    assert "○</span>&nbsp;без оценки" in table
    assert 'href="/ru/issues/2018/"' in page
    assert site.get("/ru/issues/2018/").text.count('<th scope="row">') == 9
    for path in ("/ru/issues/2017/", "/ru/issues/02019/"):
        assert site.get(path).status_code == 404


def test_a_section_shows_its_history_as_a_drawing_with_words_and_as_a_table(site, published, parts):
    published(MailingState.SENT)
    several_weeks(parts)
    page = site.get("/en/elite/").text
    drawing = ET.fromstring(re.search(r"<svg.*?</svg>", page, re.DOTALL)[0])
    name = drawing.find("title").text
    assert name == "How the situation changed: The ruling elite"
    assert "better: 6; no change: 7; worse: 7" in drawing.find("desc").text
    assert drawing.get("aria-labelledby").split() == [drawing.find("title").get("id"), drawing.find("desc").get("id")]
    assert len(drawing.find("polyline").get("points").split()) == 20
    assert page.count('<th scope="row">') == 26
    assert site.get("/en/elite/2018/").text.count('<th scope="row">') == 9
    assert site.get("/en/security/2018/").status_code == 404


def test_a_permalink_of_a_mail_opens_the_article_with_all_of_its_text(site, published):
    published(MailingState.SENT)
    answer = site.get("/be/elite/council-drafts")
    assert answer.status_code == 200
    assert answer.text.count("<h1") == 1
    assert "тэрмін падоўжаны" in answer.text.replace("\u00a0", " ")
    assert 'src="/be/issues/2019-W22/bridge.png"' in answer.text


def test_each_link_of_a_mail_is_a_page_that_may_be_looked_at_and_changes_nothing(site, published, parts):
    from service.render.edition import render_edition

    published(MailingState.SENT)
    reader = add_reader(parts)
    before = dump(parts)
    for chain in (("en",), ("be", "ru"), ("ru", "be", "en")):
        mail = render_edition(samples.made_edition(*chain), load_templates().catalogues, base_url=HOST)
        own = mail.html.replace(MARKERS[Slot.UNSUBSCRIBE], parts.unsubscribe_links.sign(reader))
        own = own.replace(MARKERS[Slot.PREFERENCES], parts.preference_links.sign(reader))
        links = {unescape(link) for link in re.findall(r'href="([^"#]*)', own)}
        paths = {link.removeprefix(HOST) for link in links if link.startswith(HOST)}
        assert {path[:3] for path in paths} >= {"/u/", "/p/"}
        assert len(paths) > 8
        for path in paths:
            for ask in (site.get, site.head) * 3:
                assert ask(path).status_code == 200, path
    assert dump(parts) == before


def renamed(parts, now=NOW):
    """The publication's first section under another slug, with its old one as an alias."""
    first, *others = samples.publication().sections
    slugs = dict.fromkeys(("en", "be", "ru"), "power")
    first = replace(first, slugs=slugs, aliases={"en": ("elite", "rulers"), "be": ("elita",)})
    with parts.database.begin() as session:
        publications.save(session, samples.publication(sections=(first, *others)), now)


def test_addresses_of_before_a_section_was_renamed_lead_to_the_new_ones_for_good(site, published, parts):
    published(MailingState.SENT)
    renamed(parts)
    moved = {
        "/en/elite/council-drafts": "/en/power/council-drafts",
        "/en/rulers/council-drafts": "/en/power/council-drafts",
        "/be/elita/": "/be/power/",
        "/be/elita/2019/": "/be/power/2019/",
        "/be/elite/feed.xml": "/be/power/feed.xml",
    }
    for before, after in moved.items():
        answer = site.get(before)
        assert (answer.status_code, answer.headers["location"]) == (301, after), before
        assert site.get(after).status_code == 200
    for path in ("/en/nowhere/council-drafts", "/en/security/council-drafts", "/en/elita/", "/en/power/nothing"):
        assert site.get(path).status_code == 404, path


def with_another_slug(parts, now):
    """The issue's first article under another slug, with the ones it had as aliases."""
    council, *rest = samples.articles()
    council = replace(council, slug="two-of-three", aliases=("council-drafts", "council"))
    with parts.database.begin() as session:
        issues.save(session, samples.issue(articles=(council, *rest)), now)


def test_addresses_of_before_an_article_was_renamed_lead_to_the_new_one_for_good(site, published, parts, clock):
    published(MailingState.SENT)
    assert site.get("/en/elite/council-drafts").status_code == 200
    clock.advance(seconds=2)
    with_another_slug(parts, clock.now())
    renamed(parts, clock.now())
    for before in ("elite/council-drafts", "elite/council", "power/council-drafts", "rulers/two-of-three"):
        answer = site.get(f"/en/{before}")
        assert (answer.status_code, answer.headers["location"]) == (301, "/en/power/two-of-three"), before
    page = site.get("/en/power/two-of-three")
    assert page.status_code == 200
    assert canonical(page.text) == f"{HOST}/en/power/two-of-three"
    assert site.get("/en/security/council").status_code == 404
    for path in crawl(site):
        assert not path.endswith(("/council", "/council-drafts")), path


def test_a_slug_that_another_article_has_now_is_no_way_to_the_one_that_had_it(site, published, parts):
    published(MailingState.SENT)
    with_another_slug(parts, NOW)
    newer = replace(samples.articles()[0], texts={"en": samples.text("en", "The newer one", "A lead.", "A body.")})
    week = WEEK.shifted(1)
    with parts.database.begin() as session:
        issues.save(session, samples.issue(week=week, articles=(newer,), assets=()), NOW)
        values = {"rate": None, "audience": "all", "actor": "test", "release_at": None}
        mailings.create(session, str(week), state=MailingState.SENT, now=NOW, **values)
    assert "The newer one" in site.get("/en/elite/council-drafts").text


def test_an_article_that_was_renamed_does_not_come_twice_to_a_feed_reader(site, published, parts, clock):
    published(MailingState.SENT)

    def entry():
        feed = ET.fromstring(site.get("/en/elite/feed.xml").content)
        (found,) = feed.findall(f"{ATOM}entry")
        return found.find(f"{ATOM}id").text, found.find(f"{ATOM}link").get("href")

    before = entry()
    clock.advance(seconds=2)
    with_another_slug(parts, clock.now())
    after = entry()
    assert after[0] == before[0]
    assert (before[1], after[1]) == (f"{HOST}/en/elite/council-drafts", f"{HOST}/en/elite/two-of-three")


def alternates(html):
    return dict(re.findall(r'<link rel="alternate" hreflang="([^"]*)" href="([^"]*)">', html))


def canonical(html):
    return re.search(r'<link rel="canonical" href="([^"]*)">', html)[1]


def test_every_page_names_its_translations_and_each_of_these_names_it(site, published):
    published(MailingState.SENT)
    named = 0
    for path, answer in crawl(site).items():
        if "html" not in answer.headers.get("content-type", ""):
            continue
        others = alternates(answer.text)
        if canonical(answer.text) != HOST + path:
            assert others == {}, path
            continue
        named += 1
        assert others[path.split("/")[1]] == HOST + path
        assert others["x-default"] in {*others.values(), f"{HOST}/"}
        for code, url in others.items():
            if code != "x-default":
                assert alternates(site.get(url.removeprefix(HOST)).text) == others
                assert url.startswith(f"{HOST}/{code}/")
    assert named > 25


def test_only_the_translations_that_exist_are_offered(site, published):
    published(MailingState.SENT)
    page = site.get("/en/elite/council-drafts").text
    assert set(alternates(page)) == {"en", "be", "x-default"}
    bar = page[page.index('<nav class="column"') : page.index("</nav>")]
    assert re.findall(r'hreflang="(\w+)"', bar) == ["be"]
    assert 'href="/be/elite/council-drafts"' in bar


def test_an_article_without_a_translation_says_so_and_is_a_copy_of_its_own_languages_page(site, published):
    published(MailingState.SENT)
    page = site.get("/ru/elite/council-drafts").text
    assert '<html lang="ru"' in page
    assert '<h1 lang="en" dir="ltr">' in page
    assert '<p class="note">' in page
    assert canonical(page) == f"{HOST}/en/elite/council-drafts"
    assert alternates(page) == {}
    assert data(page)["inLanguage"] == "en"
    bar = page[page.index('<nav class="column"') : page.index("</nav>")]
    assert re.findall(r'hreflang="(\w+)"', bar) == ["en", "be"]


def data(page):
    return json.loads(re.search(r'<script type="application/ld\+json">(.*?)</script>', page, re.DOTALL)[1])


def test_pages_tell_search_engines_what_they_are(site, published):
    published(MailingState.SENT)
    kinds = {path: data(site.get(path).text)["@type"] for path in ("/en/", ISSUE, "/en/elite/", "/en/issues/")}
    assert set(kinds.values()) == {"WebSite", "PublicationIssue", "CollectionPage"}
    page = site.get("/en/elite/council-drafts").text
    told = data(page)
    assert told["headline"] == "The council takes two drafts of three"
    assert [author["name"] for author in told["author"]] == ["A. Sample", "B. Example"]
    assert told["datePublished"] == "2019-06-03"
    assert told["isPartOf"]["issueNumber"] == "2019-W22"
    assert '<meta property="og:title" content="The council takes two drafts of three">' in page
    assert f'<meta property="og:url" content="{HOST}/en/elite/council-drafts">' in page


def test_the_feed_holds_the_full_texts_under_ids_that_stay(site, published):
    published(MailingState.SENT)
    feed = ET.fromstring(site.get("/be/feed.xml").content)
    (entry,) = feed.findall(f"{ATOM}entry")
    assert entry.find(f"{ATOM}link").get("href") == f"{HOST}/be/issues/2019-W22/"
    assert entry.find(f"{ATOM}id").text == "tag:weekly.example.org,2019:weekly/be/2019-W22"
    content = entry.find(f"{ATOM}content")
    assert content.get("type") == "html"
    assert content.text.startswith("<h2>Рада")
    assert "<li>тэрмін падоўжаны</li>" in content.text
    assert '<h2 lang="ru">Учения' in content.text
    assert f'src="{HOST}/be/issues/2019-W22/bridge.png"' in content.text


def test_the_feed_of_a_section_holds_its_articles_alone(site, published):
    published(MailingState.SENT)
    feed = ET.fromstring(site.get("/en/society/feed.xml").content)
    (entry,) = feed.findall(f"{ATOM}entry")
    assert entry.find(f"{ATOM}id").text == "tag:weekly.example.org,2019:weekly/en/2019-W22/yards-first"
    assert entry.find(f"{ATOM}link").get("href") == f"{HOST}/en/society/yards-first"
    assert feed.find(f"{ATOM}id").text == "tag:weekly.example.org,2019:weekly/en/society"
    assert feed.find(f"{ATOM}link[@rel='self']").get("href") == f"{HOST}/en/society/feed.xml"


def one_article(parts, slug="council-drafts"):
    """The sample issue with that article alone."""
    kept = tuple(article for article in samples.articles() if article.slug == slug)
    assert len(kept) == 1
    with parts.database.begin() as session:
        issues.save(session, samples.issue(articles=kept), NOW)


def test_the_feed_of_issues_tells_the_headline_of_an_only_article_too(site, published, parts):
    one_article(parts)
    published(MailingState.SENT)
    for path, headlines in (("/be/feed.xml", 1), ("/be/elite/feed.xml", 0)):
        (entry,) = ET.fromstring(site.get(path).content).findall(f"{ATOM}entry")
        content = entry.find(f"{ATOM}content").text.replace("\u00a0", " ")
        assert content.count("<h2>Рада прымае два праекты з трох</h2>") == headlines, path
        assert content.count("<h2") == headlines


def test_a_title_in_another_language_than_its_feeds_says_so(site, published):
    published(MailingState.SENT)
    language = "{http://www.w3.org/XML/1998/namespace}lang"
    own, foreign = (
        ET.fromstring(site.get(path).content).find(f"{ATOM}entry/{ATOM}title")
        for path in ("/en/elite/feed.xml", "/ru/elite/feed.xml")
    )
    assert own.text == foreign.text
    assert (own.get(language), foreign.get(language)) == (None, "en")


def test_the_ids_of_a_feed_stay_when_the_site_moves_and_a_section_is_renamed(site, published, parts, clock):
    published(MailingState.SENT)

    def ids(path):
        return [found.text for found in ET.fromstring(site.get(path).content).iter(f"{ATOM}id")]

    before = ids("/en/elite/feed.xml")
    clock.advance(seconds=2)
    renamed(parts, clock.now())
    assert site.get("/en/elite/feed.xml").status_code == 301
    assert ids("/en/power/feed.xml") == before


def test_a_corrected_text_updates_its_entry(site, published, parts, clock):
    published(MailingState.SENT)
    first = ET.fromstring(site.get("/en/feed.xml").content).find(f"{ATOM}entry/{ATOM}updated").text
    clock.advance(days=1)
    correct(parts, clock)
    second = ET.fromstring(site.get("/en/feed.xml").content).find(f"{ATOM}entry/{ATOM}updated").text
    assert (first, second) == ("2019-06-03T07:00:00Z", "2019-06-04T07:00:00Z")


def correct(parts, clock):
    """Another title for the first article's English text."""
    council, *rest = samples.articles()
    text = replace(council.texts["en"], title="A corrected title")
    council = replace(council, texts={**council.texts, "en": text})
    with parts.database.begin() as session:
        issues.save(session, samples.issue(articles=(council, *rest)), clock.now())


def test_the_sitemap_lists_every_page_that_is_its_own_in_each_of_its_languages(site, published):
    published(MailingState.SENT)
    space = {"s": "http://www.sitemaps.org/schemas/sitemap/0.9", "x": "http://www.w3.org/1999/xhtml"}
    listed = {}
    for url in ET.fromstring(site.get("/sitemap.xml").content).findall("s:url", space):
        links = {link.get("hreflang"): link.get("href") for link in url.findall("x:link", space)}
        listed[url.find("s:loc", space).text.removeprefix(HOST)] = links
    pages = {
        path: alternates(answer.text)
        for path, answer in crawl(site).items()
        if "html" in answer.headers.get("content-type", "") and canonical(answer.text) == HOST + path
    }
    assert set(listed) == set(pages)
    for path, links in listed.items():
        assert links.items() <= pages[path].items()
        assert pages[path].keys() - links.keys() == {"x-default"}
    assert "Sitemap: http://localhost:8000/sitemap.xml" in site.get("/robots.txt").text


def test_before_anything_is_published_the_site_says_so(site):
    answer = site.get("/", headers={"Accept-Language": "be"})
    assert answer.status_code == 200
    assert "Пакуль нічога не апублікавана." in answer.text


def test_before_the_first_issue_each_page_says_so(site, published):
    for path in ("/ru/", "/ru/issues/"):
        assert "Пока ничего не опубликовано." in site.get(path).text


LOG_OF_CHANGES = {"en": "log of changes", "be": "журнале змен", "ru": "журнале изменений"}


@pytest.mark.parametrize("language", ["en", "be", "ru"])
def test_the_privacy_page_tells_for_how_long_as_the_code_keeps_it_and_how_to_be_erased(site, published, language):
    page = site.get(f"/{language}/privacy").text
    told = page[page.index("<h1") : page.index("<form")].replace("\u00a0", " ")
    words = load_templates().catalogues[language]
    kept = (CONFIRMATION_HOURS, KEEP_LINKS.days, bounces.KEEP_REPLIES.days, bounces.KEEP.days)
    for number in kept:
        assert re.search(rf"\b{number}\b", told), number
    # The names of what leads there, as the mail and the reader's own page have them.
    for name in ("Change languages", "Erase my data now"):
        assert words(name) in told
    # Once as what notes the changes, once as what stays of an erased reader.
    assert told.count(LOG_OF_CHANGES[language]) == 2


@pytest.mark.parametrize(
    "path",
    [
        "/de/issues/",
        "/en/issues/2019-W99/",
        "/en/issues/x/",
        "/en/x/y/z",
        "/docs",
        "/openapi.json",
        "/redoc",
        "/en/issues/2019-W22/..%2f..%2fetc",
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(site, published, path):
    published(MailingState.SENT)
    answer = site.get(path, follow_redirects=True)
    assert answer.status_code == 404
    assert "There is no such page" in answer.text


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/be/nothing/here", "Такой старонкі няма"),
        ("/ru/a/b/c/d", "Такой страницы нет"),
        ("/be/nothing/here?lang=ru", "Такой страницы нет"),
    ],
)
def test_what_is_not_there_is_said_in_the_language_of_the_address(site, published, path, words):
    answer = site.get(path, headers={"Accept-Language": "en"})
    assert answer.status_code == 404
    assert words in answer.text


@pytest.mark.parametrize(
    ("accepted", "words"),
    [
        ("be-BY, ru;q=0.8", "Такой старонкі няма"),
        ("fr, ru;q=0.9, en;q=0.1", "Такой страницы нет"),
        ("en-GB", "There is no such page"),
        ("fr", "There is no such page"),
    ],
)
def test_what_is_not_there_is_said_in_the_language_of_the_browser_where_the_address_names_none(
    site, published, accepted, words
):
    for path in ("/none/of/these", "/p/" + "A" * 48, "/u/" + "A" * 48):
        answer = site.get(path, headers={"Accept-Language": accepted})
        assert answer.status_code == 404
        assert words in answer.text
        assert answer.headers["vary"] == "Accept-Language"


@pytest.mark.parametrize(
    ("codes", "order"),
    [("ru pl be de en", "en be ru de pl"), ("pl ru", "ru pl"), ("pl de", "de pl"), ("b nb ru", "ru b nb")],
)
def test_a_language_that_is_added_is_no_ones_first_where_no_publication_says_so(codes, order):
    assert every_language(codes.split()) == tuple(order.split())


def test_a_language_that_another_week_has_is_not_offered_for_this_one(site, published, parts):
    published(MailingState.SENT)
    several_weeks(parts, 1)
    page = site.get("/ru/issues/2019-W21/").text
    assert canonical(page) == f"{HOST}/en/issues/2019-W21/"
    assert set(alternates(site.get("/en/issues/2019-W21/").text)) == {"en", "x-default"}
    assert str(Week.parse("2019-W21")) in page


def test_a_slug_that_comes_again_takes_the_permalink_and_the_older_article_stays_within_reach(site, published, parts):
    published(MailingState.SENT)
    older = replace(samples.articles()[0], texts={"en": samples.text("en", "The older one", "A lead.", "A body.")})
    week = WEEK.shifted(-1)
    with parts.database.begin() as session:
        issues.save(session, samples.issue(week=week, articles=(older,), assets=()), NOW)
        values = {"rate": None, "audience": "all", "actor": "test", "release_at": None}
        mailings.create(session, str(week), state=MailingState.SENT, now=NOW, **values)
    assert "The council takes two" in site.get("/en/elite/council-drafts").text
    lists = site.get("/en/elite/").text, site.get("/en/issues/").text, site.get("/en/elite/feed.xml").text
    for page in lists:
        assert "/en/issues/2019-W21/#council-drafts" in page
        assert "/en/elite/council-drafts" in page
    page = site.get("/en/issues/2019-W21/").text
    assert 'id="council-drafts"' in page
    assert "/en/elite/council-drafts" not in page
    assert page.count("/en/issues/2019-W21/#council-drafts") == 2  # the link beside the article, and for search engines
    assert "/en/elite/council-drafts" in site.get("/en/issues/2019-W22/").text


def test_no_part_of_the_page_of_an_issue_has_a_name_that_an_article_may_have(site, published):
    """An article's anchor is its slug, of a-z, 0-9 and hyphens: lists and feeds hold it, so it stays."""
    published(MailingState.SENT)
    names = re.findall(r' id="([^"]*)"', site.get(ISSUE).text)
    slugs = {article.slug for article in samples.articles()}
    assert len(names) == len(set(names)) > len(slugs)
    assert slugs <= set(names)
    for name in set(names) - slugs:
        assert not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name), name


def test_an_article_named_main_is_another_target_than_the_text(site, published, parts):
    council, *rest = samples.articles()
    with parts.database.begin() as session:
        issues.save(session, samples.issue(articles=(replace(council, slug="main"), *rest)), NOW)
    published(MailingState.SENT)
    page = site.get(ISSUE).text
    skip = re.search(r'<a class="skip" href="#([^"]*)"', page)[1]
    assert f'<main id="{skip}"' in page
    assert page.count('id="main"') == 1
    assert '<article class="sheet" id="main">' in page


def test_a_control_character_in_a_title_breaks_no_feed(site, published, parts):
    council, *rest = samples.articles()
    text = replace(council.texts["en"], title="A bell \x07 and a tab \x0b here", body="Words \x1b there")
    with parts.database.begin() as session:
        changed = replace(council, texts={"en": text})
        issues.save(session, samples.issue(articles=(changed, *rest)), NOW)
    published(MailingState.SENT)
    for path in ("/en/feed.xml", "/en/elite/feed.xml"):
        assert "and a tab" in "".join(ET.fromstring(site.get(path).content).itertext())
