"""Addresses with a slash too few or too many, and that no answer leads to a host that the request has named."""

import re

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount

from service.domain.mailing import MailingState
from service.web.app import create_app
from tests.unit.web.test_public import leave_link, preference_link

PROXIED = {"Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
ARTICLE = "/en/elite/council-drafts"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/en", "/en/"),
        ("/en/issues", "/en/issues/"),
        ("/en/issues/2019", "/en/issues/2019/"),
        ("/en/issues/2019-W22", "/en/issues/2019-W22/"),
        ("/en/elite", "/en/elite/"),
        ("/en/elite/2019", "/en/elite/2019/"),
        (ARTICLE + "/", ARTICLE),
        (ARTICLE + "//", ARTICLE),
        ("/en/privacy/", "/en/privacy"),
        ("/en/subscribe/", "/en/subscribe"),
        ("/en/feed.xml/", "/en/feed.xml"),
        ("/en/issues?from=a&to=%2F%2Fb", "/en/issues/?from=a&to=%2F%2Fb"),
    ],
)
def test_a_slash_too_few_or_too_many_leads_for_good_to_the_page_that_is_meant(site, published, path, meant):
    published(MailingState.SENT)
    for method in ("GET", "HEAD"):
        answer = site.request(method, path, headers=PROXIED)
        assert (answer.status_code, answer.headers["location"], answer.content) == (301, meant, b""), path
    assert site.get(meant).status_code == 200


def test_a_link_of_a_mail_with_a_slash_too_many_is_kept_by_no_cache(site, parts, reader):
    for link in (leave_link(parts, reader), preference_link(parts, reader)):
        answer = site.get(link + "/?lang=be")
        assert (answer.status_code, answer.headers["location"]) == (301, link + "?lang=be")
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/favicon.ico",
        "/static",
        "/static/",
        "/de",
        "/en/nothing",
        "/en/nothing/",
        "/en/issues/2019-W23",
        "/en/elite/2018",
        "/en/elite/2018/",
        "/en/elite/nothing/",
        "/u/" + "A" * 48 + "/",
        "//evil.example/en",
        "//evil.example/",
        "///en/privacy/",
        "/%2Fevil.example/en/",
        "/%5Cevil.example/",
        "/en/..//evil.example/",
    ],
)
def test_where_no_page_is_meant_nothing_is_led_anywhere(site, published, path):
    published(MailingState.SENT)
    answer = site.get("http://localhost:8000" + path, headers=PROXIED)
    assert answer.status_code == 404
    assert "location" not in answer.headers


def test_what_is_sent_to_a_wrong_address_is_not_sent_on(site, parts, reader):
    assert site.post(leave_link(parts, reader) + "/").status_code in (404, 405)
    assert site.post("/en/subscribe/", data={"address": "somebody@example.test"}).status_code in (404, 405)


def every_path(app, values):
    """The path of every route, of those of included routers, too, with these values in it."""
    patterns = {path for route in app.routes for path in _paths(route)}
    assert len(patterns) > 25
    for pattern in sorted(patterns):
        path = re.sub(r"\{(\w+)(?::\w+)?\}", lambda name: values[name[1]], pattern)
        yield from (path, path + "/", path.rstrip("/") or "/", "/" + path, path + "?lang=be")


def _paths(route):
    if isinstance(route, Mount):
        return [route.path + "/style.css", route.path]
    return (
        [one.path for one in route.effective_candidates()] if hasattr(route, "effective_candidates") else [route.path]
    )


def test_no_answer_leads_to_a_host_or_a_scheme_that_the_request_has_named(parts, reader, published):
    published(MailingState.SENT)
    values = {
        "language": "en",
        "year": "2019",
        "week": "2019-W22",
        "slug": "elite",
        "name": "council-drafts",
        "token": parts.unsubscribe_links.sign(reader),
    }
    led = set()
    app = create_app(parts)
    with TestClient(app, "http://evil.example", follow_redirects=False, client=("127.0.0.1", 40000)) as client:
        for path in every_path(app, values):
            for method in ("GET", "HEAD", "POST"):
                answer = client.request(method, "http://evil.example" + path, headers=PROXIED)
                assert "evil.example" not in answer.text, path
                assert "evil.example" not in str(answer.headers), path
                if location := answer.headers.get("location"):
                    assert re.match(r"/(?!/)", location), (path, location)
                    led.add(path)
    assert len(led) > 10
