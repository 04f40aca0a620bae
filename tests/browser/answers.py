"""What the served site answers to its forms, filled in well and badly, and to those whom it fails: shown in a browser."""

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Page

from service.domain.chains import Chain
from service.domain.subscriber import RequestPurpose, SubscriberStatus
from service.domain.tokens import hour_of
from service.domain.weeks import Week
from service.store import confirmations, requests, subscribers
from service.store import publication as publications
from service.web.bodies import MOST_OCTETS
from service.web.floodgate import Floodgate
from tests.browser.pictures import sample
from tests.browser.reading import FAILURES, LANGUAGES, WEEKS, Served


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody with a browser who reads that site in that language."""

    site: Served
    page: Page
    language: str

    def open(self, path: str, status: int = 200) -> None:
        """Go to a page, which must answer with that status."""
        answer = self.page.goto(f"{self.site.base}{path}")
        assert answer is not None
        assert answer.status == status, (path, answer.status)

    def press(self, form: str = "form", status: int = 200) -> None:
        """Press the button of a form, which must be answered with that status."""
        button = self.page.locator(f"main {form} button")
        with self.page.expect_response(lambda answer: answer.request.is_navigation_request()) as answered:
            button.click()
        assert answered.value.status == status, (form, answered.value.status)
        self.page.wait_for_load_state()

    def save(self, change: str, status: int = 200) -> None:
        """Send off one of the forms of a reader's page."""
        self.press(f"form:has(input[name=change][value={change}])", status)


def answers(site: Served, page: Page, language: str) -> Iterator[str]:
    """Every answer to a form of that site, and its errors: the name of each, while `page` shows it."""
    visitor = Visitor(site, page, language)
    yield from _to_who_signs_up(visitor)
    reader = _reader(site, language, SubscriberStatus.ACTIVE)
    yield from _to_choices(visitor, reader)
    yield from _to_who_moves(visitor, reader)
    yield from _to_who_leaves(visitor, reader)
    for status in FAILURES:
        visitor.open(f"/{language}/it/fails/with/{status}", status)
        yield f"error-{status}"


def empty_pages(site: Served, page: Page) -> Iterator[tuple[str, str]]:
    """What a site shows before there is anything: the name and the language of each page, while `page` shows it.

    The publication is put in after the first ones.
    """
    for language in LANGUAGES:
        Visitor(site, page, language).open(f"/?lang={language}")
        yield "empty", language
    with site.parts.database.begin() as session:
        publications.save(session, sample()[0], site.parts.clock.now())
    for language in LANGUAGES:
        for name, path in (("empty-home", ""), ("empty-archive", "issues/")):
            Visitor(site, page, language).open(f"/{language}/{path}")
            yield name, language


def _to_who_signs_up(visitor: Visitor) -> Iterator[str]:
    page, form = visitor.page, f"/{visitor.language}/subscribe"
    visitor.open(form)
    page.locator("#address").fill("nothing")
    for box in page.locator("input[name=language]").all():
        box.uncheck()
    visitor.press(status=422)
    yield "subscribe-errors"
    visitor.open(form)
    page.locator("#address").fill("somebody@example.test")
    with _crowded(visitor.site):
        visitor.press(status=429)
    yield "subscribe-wait"
    visitor.open(form)
    # The field that nobody sees is the only one that takes so much.
    page.locator("#website").fill("x" * MOST_OCTETS, force=True)
    visitor.press(status=413)
    yield "error-413"
    link = _confirm_link(visitor, _reader(visitor.site, visitor.language, SubscriberStatus.PENDING))
    visitor.open(link)
    visitor.press()
    yield "welcome"
    page.reload()
    yield "confirm-again"
    visitor.open(link)
    yield "confirm-already"


def _to_choices(visitor: Visitor, reader: bytes) -> Iterator[str]:
    page = visitor.page
    visitor.open(_own_page(visitor, reader))
    page.locator("#language-2").select_option(visitor.language)
    visitor.save("languages", 400)
    yield "preferences-no-languages"
    page.locator("#until").fill("2019-01-01")
    visitor.save("pause", 400)
    yield "preferences-no-day"
    visitor.save("languages")
    yield "preferences-languages"
    page.locator("input[name=text_only]").check()
    visitor.save("text")
    yield "preferences-text"
    page.locator("#until").fill((visitor.site.parts.clock.now().date() + dt.timedelta(days=20)).isoformat())
    visitor.save("pause")
    yield "preferences-pause"
    visitor.save("languages")
    yield "preferences-languages-paused"
    visitor.save("resume")
    yield "preferences-resume"
    visitor.press("form:has(input[value=data])")
    yield "preferences-request"


def _to_who_moves(visitor: Visitor, reader: bytes) -> Iterator[str]:
    page = visitor.page
    visitor.open(_fresh_link(visitor, reader, RequestPurpose.ADDRESS))
    page.locator("#address").fill("nothing")
    visitor.press(status=422)
    yield "request-address-errors"
    page.locator("#address").fill(_address())
    visitor.press()
    yield "request-address-done"
    visitor.open(_confirm_link(visitor, reader, moves=True))
    yield "confirm-move"
    visitor.press()
    yield "moved"


def _to_who_leaves(visitor: Visitor, reader: bytes) -> Iterator[str]:
    leave = f"/u/{visitor.site.parts.unsubscribe_links.sign(reader)}?lang={visitor.language}"
    # Whose address has changed since.
    own = _own_page(visitor, reader, epoch=1)
    visitor.open(own)
    visitor.page.request.post(f"{visitor.site.base}{leave}")
    visitor.save("languages")
    yield "preferences-left-languages"
    visitor.open(leave)
    visitor.press()
    yield "unsubscribed"
    visitor.open(own)
    yield "preferences-left"
    visitor.press("form:has(input[value=data])")
    yield "preferences-left-request"
    visitor.open(_fresh_link(visitor, reader, RequestPurpose.ERASE, epoch=1))
    visitor.press()
    yield "request-erase-done"


@contextmanager
def _crowded(site: Served) -> Iterator[None]:
    """While more people sign up than the site lets pass at once."""
    usual = site.app.state.floodgate
    site.app.state.floodgate = Floodgate(site.parts.form_stamps, in_all=0)
    try:
        yield
    finally:
        site.app.state.floodgate = usual


def _address() -> str:
    return f"{os.urandom(8).hex()}@example.test"


def _reader(site: Served, language: str, status: SubscriberStatus) -> bytes:
    chain = Chain((language, *(code for code in LANGUAGES if code != language)))
    made = {"status": status, "consent": "form:1", "week": Week.parse(WEEKS[0])}
    with site.parts.database.begin() as session:
        return subscribers.add(session, _address(), chain, **made).id


def _own_page(visitor: Visitor, reader: bytes, epoch: int = 0) -> str:
    return f"/p/{visitor.site.parts.preference_links.sign(reader, epoch)}?lang={visitor.language}"


def _fresh_link(visitor: Visitor, reader: bytes, purpose: RequestPurpose, epoch: int = 0) -> str:
    parts = visitor.site.parts
    now = parts.clock.now()
    with parts.database.begin() as session:
        made = requests.add(session, reader, epoch, purpose, now=now)
    assert made is not None
    return f"/r/{parts.request_links.sign(made, hour_of(now))}?lang={visitor.language}"


def _confirm_link(visitor: Visitor, reader: bytes, *, moves: bool = False) -> str:
    parts = visitor.site.parts
    now, new = parts.clock.now(), _address()
    with parts.database.begin() as session:
        known = subscribers.get(session, reader)
        assert known is not None
        asked = session.sealer.address_hash(new) if moves else known.address_hash
        mover = (reader, known.epoch, new) if moves else None
        made = confirmations.add(session, asked, known.chain, text_version=1, now=now, mover=mover)
    assert made is not None
    return f"/c/{parts.confirmation_links.sign(made, hour_of(now))}?lang={visitor.language}"
