"""What a button is answered with is said once: a link to the same address, in another language, would ask anew."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import service.web
from service.domain.chains import Chain
from service.domain.subscriber import RequestPurpose, SubscriberStatus
from service.domain.tokens import hour_of
from service.domain.weeks import Week
from service.store import confirmations, requests, subscribers
from service.web.bodies import MOST_OCTETS
from service.web.floodgate import Floodgate
from tests.unit.web.test_public import leave_link, preference_link

# In the bar; a page in another language is linked nowhere else.
SWITCH = re.compile(r' hreflang="|href="[^"]*\?lang=')
FORGED, TOO_LONG = "A" * 48, "x" * MOST_OCTETS
OLD, NEW, MOVED = "canary-old@example.test", "canary-new@example.test", "canary-moved@example.test"


@pytest.fixture
def browser(open_app):
    with TestClient(open_app, "http://localhost:8000", follow_redirects=False) as made:
        yield made


def confirm_link(parts, address, mover=None):
    now = parts.clock.now()
    with parts.database.begin() as session:
        if mover is None:
            signed_up = {"status": SubscriberStatus.PENDING, "consent": None, "week": Week(2019, 1)}
            subscribers.add(session, address, Chain(("be",)), **signed_up)
        asked = session.sealer.address_hash(address)
        made = confirmations.add(session, asked, Chain(("be",)), text_version=1, now=now, mover=mover)
    return f"/c/{parts.confirmation_links.sign(made, hour_of(now))}"


def fresh_link(parts, reader, purpose, epoch=0):
    now = parts.clock.now()
    with parts.database.begin() as session:
        made = requests.add(session, reader, epoch, purpose, now=now)
    return f"/r/{parts.request_links.sign(made, hour_of(now))}"


def forms(parts, reader):
    """Every form of the site, filled in well and badly: the status that it is answered with, its address, its fields.

    What ends a reader comes last.
    """
    own, moving = preference_link(parts, reader), fresh_link(parts, reader, RequestPurpose.ADDRESS)
    yield 422, "/be/subscribe", {"address": "canary"}
    yield 429, "/be/subscribe", {"address": NEW, "language": "be"}
    yield 413, "/be/subscribe", {"address": TOO_LONG}
    yield 404, "/de/subscribe", {}
    confirm = confirm_link(parts, NEW)
    yield 200, confirm, {}
    yield 200, confirm, {}
    yield 404, f"/c/{FORGED}", {}
    for choice in ({"language": "be"}, {"change": "text"}, {"change": "pause", "until": "2019-06-20"}):
        yield 200, own, choice
    for choice in ({"change": "resume"}, {"change": "request", "purpose": "data"}):
        yield 200, own, choice
    for choice in ({"change": "languages"}, {"change": "pause"}, {"change": "nothing"}):
        yield 400, own, choice
    yield 422, moving, {"address": "canary"}
    yield 200, moving, {"address": MOVED}
    yield 404, moving, {"address": MOVED}
    yield 200, confirm_link(parts, MOVED, (reader, 0, MOVED)), {}
    yield 200, own, {}
    yield 404, f"/p/{FORGED}", {}
    yield 200, leave_link(parts, reader), {}
    yield 404, f"/u/{FORGED}", {}
    yield 200, preference_link(parts, reader, 1), {"language": "en"}
    yield 200, preference_link(parts, reader, 1), {"change": "request", "purpose": "data"}
    yield 200, fresh_link(parts, reader, RequestPurpose.ERASE, 1), {}
    yield 405, "/be/privacy", {}
    yield 404, "/no/such/page/at/all", {}


def test_no_answer_to_a_form_leads_to_where_it_is_not_said(open_app, browser, parts, reader):
    open_app.state.floodgate = Floodgate(parts.form_stamps, in_all=0)
    asked = []
    for status, path, fields in forms(parts, reader):
        answer = browser.post(f"{path}?lang=be", data=fields)
        assert (answer.status_code, "<h1>" in answer.text) == (status, True), (path, fields)
        assert not SWITCH.search(answer.text), (path, fields)
        asked.append(path)
    sources = "".join(path.read_text("utf-8") for path in Path(service.web.__path__[0]).glob("*.py"))
    posted = [re.sub(r"\{\w+\}", "[^/]+", path) for path in re.findall(r'@router\.post\("([^"]*)"', sources)]
    assert len(posted) >= 5
    assert [one for one in posted if not any(re.fullmatch(one, path) for path in asked)] == []


def test_what_is_only_looked_at_is_offered_in_every_language(browser, parts, reader):
    used = confirm_link(parts, NEW)
    browser.post(used)
    looked_at = [
        used,
        "/be/subscribe",
        "/be/subscribe/sent",
        "/no/such/page",
        confirm_link(parts, OLD),
        leave_link(parts, reader),
        preference_link(parts, reader),
        *(fresh_link(parts, reader, purpose) for purpose in RequestPurpose),
    ]
    for path in looked_at:
        assert len(SWITCH.findall(browser.get(f"{path}?lang=be").text)) >= 2, path


def test_a_form_that_is_given_back_leads_to_the_first_page(browser, parts, reader):
    link = fresh_link(parts, reader, RequestPurpose.ADDRESS)
    assert 'href="/be/"' not in browser.get(f"{link}?lang=be").text
    assert 'href="/be/"' in browser.post(f"{link}?lang=be", data={"address": "canary"}).text
