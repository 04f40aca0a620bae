import pytest
from fastapi.testclient import TestClient

from service import log
from service.domain.errors import ConfigurationError, UnavailableError
from service.domain.mailing import MailingState
from service.web.app import create_app
from tests.unit.web.test_public import leave_link, preference_link

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@pytest.mark.parametrize(
    "path", ["/en/issues/", "/en/issues/2019-W22/", "/nothing", "/healthz", "/static/style.css", "/"]
)
def test_every_answer_has_the_security_headers(site, published, path):
    published(MailingState.SENT)
    headers = site.get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in headers


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "DELETE", "PATCH"])
def test_a_method_that_is_not_taken_is_told_all_that_are(site, parts, reader, method):
    """RFC 9110, 15.5.6: Allow lists what the address takes, by whichever route."""
    pages = ("/en/", "/en/privacy", "/en/issues/2019-W22/", "/healthz", "/static/style.css", "/cards/en.png")
    read = dict.fromkeys(pages, "GET, HEAD")
    links = (leave_link(parts, reader), preference_link(parts, reader), "/c/" + "A" * 48, "/r/" + "A" * 48)
    filled = dict.fromkeys((*links, "/be/subscribe"), "GET, HEAD, POST")
    for path, allowed in (read | filled).items():
        answer = site.request(method, path)
        assert (answer.status_code, answer.headers.get("allow")) == (405, allowed), path
    for path in pages:
        assert site.post(path).headers.get("allow") == "GET, HEAD", path


def test_pages_obey_their_own_policy(site, published):
    published(MailingState.SENT)
    for path in ("/en/issues/", "/en/issues/2019-W22/", "/en/privacy", "/nothing"):
        html = site.get(path).text
        # Data for search engines is no script to a browser, and the policy has nothing to say about it.
        assert "<script" not in html.replace('<script type="application/ld+json">', "")
        assert "style=" not in html.replace('style="white-space:nowrap"', ""), path
        assert "<style" not in html


@pytest.mark.parametrize(
    ("error", "status"),
    [(UnavailableError("x"), 503), (ConfigurationError("canary"), 500), (ZeroDivisionError("canary"), 500)],
)
def test_an_error_becomes_a_page_with_its_status_and_without_its_words(parts, error, status):
    app = create_app(parts)

    @app.get("/a/b/c/d")
    def fail():
        raise error

    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/a/b/c/d")
    assert answer.status_code == status
    assert "canary" not in answer.text
    assert answer.headers["content-security-policy"] == POLICY
    assert ("retry-after" in answer.headers) == (status == 503)


def test_the_log_names_the_route_and_never_the_token_or_the_machine(site, capsys):
    log.configure(json=True)  # onto the stderr that is captured here
    site.get("/en/issues/canary-week/?q=canary-query", headers={"User-Agent": "canary-agent"})
    logged = "".join(line for line in capsys.readouterr().err.splitlines() if '"part": "web"' in line)
    assert '"route": "/{language}/issues/{week}/"' in logged
    assert "canary" not in logged
    assert "127.0.0.1" not in logged


def test_health_tells_whether_the_process_lives_and_whether_it_can_answer(site, parts):
    assert site.get("/healthz").json() == {"ok": True}
    found = site.get("/readyz").json()
    assert (found["ok"], found["database"], found["publication"]) == (True, "ok", False)


def test_it_is_not_ready_without_its_database(parts):
    (parts.settings.data_dir / "tydzen.sqlite3").unlink()
    with TestClient(create_app(parts)) as client:
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "tydzen db upgrade" in answer.json()["database"]


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "Something went wrong here"), ("be", "У нас нешта пайшло не так"), ("ru", "У нас что-то пошло не так")],
)
def test_an_error_is_told_in_the_language_of_the_address_or_of_the_browser(parts, published, language, words):
    app = create_app(parts)

    @app.get("/{language}/b/c/d")
    def fail():
        raise ZeroDivisionError

    with TestClient(app, raise_server_exceptions=False) as client:
        asked = [(f"/{language}/b/c/d", "en"), ("/xx/b/c/d", f"fr, {language};q=0.9, en;q=0.1")]
        for path, accepted in asked:
            answer = client.get(path, headers={"Accept-Language": accepted})
            assert answer.status_code == 500
            assert words in answer.text
            assert f'<html lang="{language}"' in answer.text
            assert answer.headers["content-language"] == language
