"""The pictures that other sites show beside a link: each page has one, and none shows what may not be seen yet."""

import re
from dataclasses import replace

import pytest

from service.domain.content import TextStatus
from service.domain.mailing import MailingState
from service.store import issues
from service.store import publication as publications
from tests.unit.render import samples
from tests.unit.web.parts import NOW
from tests.unit.web.test_reading import HOST, correct, crawl, data


def card_of(page):
    found = re.findall(r'<meta property="og:image" content="([^"]*)">', page)
    return found[0].removeprefix(HOST) if found else None


def test_every_page_has_a_picture_that_is_there(site, published):
    published(MailingState.SENT)
    cards = {}
    for path, answer in crawl(site).items():
        if "html" in answer.headers.get("content-type", ""):
            card = cards[path] = card_of(answer.text)
            assert data(answer.text)["image"] == HOST + card, path
    assert cards["/be/"] == "/cards/be.png"
    assert cards["/be/issues/2019-W22/"] == "/cards/be/2019-W22.png"
    assert cards["/be/elite/council-drafts"] == "/cards/be/2019-W22/council-drafts.png"
    # A page that stands in for a translation shows the text's own language, and so does its picture.
    assert cards["/ru/elite/council-drafts"] == "/cards/en/2019-W22/council-drafts.png"
    drawn = {}
    for card in set(cards.values()):
        answer = site.get(card)
        assert answer.status_code == 200, card
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["etag"]
        drawn[card] = answer.content
    assert len(set(drawn.values())) == len(drawn) >= 8


@pytest.mark.parametrize(
    "path",
    [
        "/cards/de.png",
        "/cards/ru/2019-W22/council-drafts.png",
        "/cards/en/2019-W22/nothing.png",
        "/cards/en/2019-W21.png",
        "/cards/en/x.png",
        "/cards/en",
        "/cards/",
    ],
)
def test_there_is_no_picture_of_what_is_not_there(site, published, path):
    published(MailingState.SENT)
    assert site.get(path, follow_redirects=True).status_code == 404


def test_nothing_is_drawn_before_the_release_nor_of_a_draft(site, published, parts, clock):
    for path in ("/cards/en/2019-W22.png", "/cards/en/2019-W22/council-drafts.png"):
        assert site.get(path).status_code == 404
    council, *rest = samples.articles()
    draft = replace(council.texts["be"], status=TextStatus.READY)
    council = replace(council, texts={**council.texts, "be": draft})
    with parts.database.begin() as session:
        issues.save(session, samples.issue(articles=(council, *rest)), NOW)
    published(MailingState.SENT)
    clock.advance(seconds=1)
    assert site.get("/cards/en/2019-W22/council-drafts.png").status_code == 200
    assert site.get("/cards/be/2019-W22/council-drafts.png").status_code == 404


def test_a_corrected_title_is_drawn_anew(site, published, parts, clock):
    published(MailingState.SENT)
    paths = ("/cards/en/2019-W22.png", "/cards/en/2019-W22/council-drafts.png")
    before = [site.get(path).content for path in paths]
    clock.advance(seconds=1)
    correct(parts, clock)
    after = [site.get(path).content for path in paths]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_language_without_letters_in_the_typeface_has_no_pictures(site, published, parts, clock):
    published(MailingState.SENT)
    titles = {**samples.publication().titles, "be": "週刊"}
    with parts.database.begin() as session:
        publications.save(session, samples.publication(titles=titles), clock.now())
    assert card_of(site.get("/be/").text) is None
    assert site.get("/cards/be.png").status_code == 404
    assert card_of(site.get("/en/").text) == "/cards/en.png"
