"""Pages that are printed once, served many times, and gone when what they show has changed."""

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from service.domain.mailing import MailingState
from service.store import mailings
from service.web.app import create_app
from service.web.sheet import Sheet
from service.web.shelf import Shelf
from tests.unit.web.parts import NOW
from tests.unit.web.test_reading import correct

ISSUE = "/en/issues/2019-W22/"


def statements(parts):
    """What is asked of the database from now on."""
    asked = []
    sa.event.listen(
        parts.database.engine, "before_cursor_execute", lambda _c, _cursor, statement, *_rest: asked.append(statement)
    )
    return asked


def test_who_has_a_page_already_gets_no_second_copy_of_it(site, published):
    published(MailingState.SENT)
    first = site.get(ISSUE)
    tag = first.headers["etag"]
    assert not tag.startswith("W/")
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = site.get(ISSUE, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b""), known
        assert answer.headers["etag"] == tag
        assert answer.headers["content-language"] == "en"
        assert "content-length" not in answer.headers
        assert answer.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert site.get(ISSUE, headers={"If-None-Match": '"other"'}).content == first.content
    assert site.get("/be/issues/2019-W22/").headers["etag"] != tag


def test_a_head_says_what_a_get_would_and_sends_nothing(site, published):
    published(MailingState.SENT)
    for coding in ("identity", "gzip"):
        asked = {"Accept-Encoding": coding}
        got, head = site.get(ISSUE, headers=asked), site.head(ISSUE, headers=asked)
        assert head.content == b""
        assert dict(head.headers) == dict(got.headers)
        if coding == "identity":
            assert int(head.headers["content-length"]) == len(got.content)


@pytest.mark.parametrize(
    ("wish", "packed"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("deflate,gzip", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("x-gzipped", False),
        ("", False),
    ],
)
def test_words_are_packed_for_who_takes_that_and_for_nobody_else(site, published, wish, packed):
    published(MailingState.SENT)
    plain = site.get(ISSUE, headers={"Accept-Encoding": "identity"})
    answer = site.get(ISSUE, headers={"Accept-Encoding": wish})
    assert answer.content == plain.content
    assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
    assert (answer.headers["etag"] != plain.headers["etag"]) == packed
    assert answer.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    if packed:
        assert int(answer.headers["content-length"]) < len(plain.content) / 2
    # Either tag is one of this page.
    for tag in (answer.headers["etag"], plain.headers["etag"]):
        again = site.get(ISSUE, headers={"Accept-Encoding": wish, "If-None-Match": tag})
        assert again.status_code == 304
        assert again.headers["etag"] == answer.headers["etag"]
        assert "content-encoding" not in again.headers


def test_a_picture_is_packed_already(site, published):
    published(MailingState.SENT)
    answer = site.get(ISSUE + "bridge.png", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.content.startswith(b"\x89PNG")


def test_a_page_is_printed_once_and_the_database_asked_once_a_second(site, published, parts, clock):
    published(MailingState.SENT)
    first = site.get(ISSUE)
    asked = statements(parts)
    for _ in range(5):
        assert site.get(ISSUE).content == first.content
    assert asked == []
    clock.advance(seconds=1)
    for _ in range(5):
        assert site.get(ISSUE).content == first.content
    assert len([statement for statement in asked if statement.startswith("SELECT")]) == 1


def test_a_correction_is_there_within_a_second(site, published, parts, clock):
    published(MailingState.SENT)
    paths = (ISSUE, "/en/", "/en/elite/", "/en/elite/council-drafts", "/en/feed.xml")
    before = {path: site.get(path) for path in paths}
    clock.advance(seconds=1)
    correct(parts, clock)
    for path in paths:
        answer = site.get(path)
        assert "A corrected title" in answer.text, path
        assert answer.headers["etag"] != before[path].headers["etag"]


def test_a_release_is_there_within_a_second_and_a_clock_that_was_set_back_hides_nothing(site, published, parts, clock):
    assert site.get(ISSUE).status_code == 404
    clock.advance(hours=-1)
    published(MailingState.SENT)
    assert site.get(ISSUE).status_code == 200


def test_a_page_of_an_address_with_a_query_is_the_same(site, published):
    published(MailingState.SENT)
    assert site.get(ISSUE + "?from=mail").content == site.get(ISSUE).content


def test_no_page_but_a_read_one_is_kept(site, published):
    published(MailingState.SENT)
    site.get(ISSUE)
    assert site.post(ISSUE).status_code == 405
    assert site.get("/en/elite/none").status_code == 404
    shelf = site.app.state.shelf
    assert shelf.at_hand(ISSUE) is not None
    assert shelf.at_hand("/en/elite/none") is None


def test_the_shelf_has_an_end_and_what_was_read_last_stays(parts, published):
    published(MailingState.SENT)
    shelf = Shelf(parts, room=250)
    for number in range(4):
        shelf.sheet(f"/{number}", None, lambda _room: Sheet(b"x" * 100, media_type="image/png"))
        shelf.at_hand("/0")
    assert [number for number in range(4) if shelf.at_hand(f"/{number}")] == [0, 3]


def test_a_page_printed_from_what_has_changed_meanwhile_is_not_kept(parts, published, clock):
    published(MailingState.SENT)
    shelf = Shelf(parts)

    def slow(_room):
        clock.advance(seconds=2)
        correct(parts, clock)
        shelf.room()
        return Sheet(b"old")

    assert shelf.sheet("/", None, slow).body == b"old"
    assert shelf.at_hand("/") is None


def test_other_articles_of_a_corrected_issue_are_not_rendered_again(parts, published, clock, monkeypatch):
    from service.render import view

    bodies = []
    rendered = view.body_html
    monkeypatch.setattr(view, "body_html", lambda body, *rest: bodies.append(body) or rendered(body, *rest))
    published(MailingState.SENT)
    with TestClient(create_app(parts)) as site:
        site.get(ISSUE)
        assert len(bodies) == 3
        clock.advance(seconds=1)
        correct(parts, clock)
        assert "A corrected title" in site.get(ISSUE).text
        assert len(bodies) == 4


def test_the_mark_of_what_is_public_is_moved_by_a_mailing_that_begins(parts, published):
    from service.store import releases

    published(MailingState.SCHEDULED)

    def mark():
        with parts.database.read() as session:
            return releases.mark(session)

    before = mark()
    with parts.database.begin() as session:
        mailing = mailings.of_issue(session, "2019-W22")
        mailings.move(session, mailing.id, MailingState.PLANNING, now=NOW)
    assert mark() == before
    with parts.database.begin() as session:
        mailings.move(session, mailing.id, MailingState.SENDING, now=NOW)
    assert mark() != before
