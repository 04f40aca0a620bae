import xml.etree.ElementTree as ET

import pytest

from service.domain.mailing import MailingState
from service.store import mailings
from tests.unit.web.conftest import NOW

ISSUE = "/en/issues/2019-W22/"


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
    for path in (ISSUE, ISSUE + "bridge.png", "/en/elite/council"):
        assert site.get(path).status_code == 404
    assert "2019-W22" not in site.get("/en/issues/").text
    assert "2019-W22" not in site.get("/en/feed.xml").text


def test_an_issue_cancelled_on_its_way_stays_readable_for_those_who_have_it(site, published, parts):
    published(MailingState.SENDING)
    with parts.database.begin() as session:
        found = mailings.of_issue(session, "2019-W22")
        mailings.move(session, found.id, MailingState.SENDING, now=NOW)
        mailings.move(session, found.id, MailingState.CANCELLED, now=NOW)
    assert site.get(ISSUE).status_code == 200


def test_every_link_of_an_issue_page_to_this_site_leads_somewhere(site, published):
    published(MailingState.SENT)
    seen, waiting = set(), ["/"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = site.get(path)
        if answer.is_redirect:
            waiting.append(answer.headers["location"].partition("#")[0])
            continue
        assert answer.status_code == 200, path
        if answer.headers["content-type"].startswith("text/html"):
            waiting += local_links(answer.text)
    assert {ISSUE, "/be/issues/2019-W22/", "/ru/issues/", "/en/privacy", "/be/feed.xml", "/static/style.css"} <= seen
    assert ISSUE + "bridge.png" in seen


def local_links(html: str) -> list[str]:
    import re

    found = re.findall(r'(?:href|src)="([^"#]*)', html)
    paths = [link.removeprefix("http://localhost:8000") for link in found]
    return [path for path in paths if path.startswith("/") and not path.startswith("//")]


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
    assert site.get("/", headers={"Accept-Language": wish}).headers["location"] == f"/{language}/issues/"


def test_a_permalink_leads_to_the_article_by_every_name_its_section_ever_had(site, published):
    published(MailingState.SENT)
    first = site.get(ISSUE).text.partition('<article class="sheet" id="')[2].partition('"')[0]
    for section in ("elite",):
        answer = site.get(f"/en/{section}/{first}")
        assert answer.headers["location"] == f"{ISSUE}#{first}"
    assert site.get(f"/en/nowhere/{first}").status_code == 404


def test_the_feed_is_well_formed_and_names_what_was_released(site, published):
    published(MailingState.SENT)
    feed = ET.fromstring(site.get("/be/feed.xml").content)
    atom = "{http://www.w3.org/2005/Atom}"
    entries = feed.findall(f"{atom}entry")
    assert [entry.find(f"{atom}link").get("href") for entry in entries] == ["http://localhost:8000/be/issues/2019-W22/"]


def test_before_anything_is_published_the_site_says_so(site):
    answer = site.get("/", headers={"Accept-Language": "be"})
    assert answer.status_code == 200
    assert "Пакуль нічога не апублікавана." in answer.text


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
