"""A reader's whole life in each language, in a real browser without JavaScript, with everything else real, too."""

import datetime as dt
import json
import re

import pytest

from service.domain.chains import Chain
from service.domain.subscriber import SubscriberStatus
from service.render.dates import long_date
from service.store import subscribers
from tests.browser.test_signup_in_browser import opened
from tests.flow.visitor import body, mails

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LANGUAGES = ("en", "be", "ru")
OTHER = {"en": "be", "be": "ru", "ru": "en"}
WORDS = {
    "en": (
        "Text only, without",
        "From now on you get:",
        "You are unsubscribed",
        "Your data has been erased",
        "has been changed",
    ),
    "be": ("Толькі тэкст, без", "Далей лісты будуць на мовах:", "Вы адпісаліся", "Вашы даныя сцёртыя", "зменены"),
    "ru": ("Только текст, без", "Дальше письма будут на языках:", "Вы отписались", "Ваши данные стёрты", "изменён"),
}


class Reader:
    """One person with a browser and a mailbox."""

    def __init__(self, house, page, language, address):
        self.house, self.page, self.language, self.address = house, page, language, address
        self.read = {}

    def stored(self):
        with self.house.database.read() as session:
            return subscribers.find(session, self.address)

    def newest_link(self, letter, address=None):
        """The link of that kind in the next mail that comes."""
        address = address or self.address
        seen = self.read.get(address, 0)
        self.house.wait_for(lambda: len(mails(self.house.sink, address)) > seen, why="no mail came")
        self.read[address] = seen + 1
        mail = mails(self.house.sink, address)[seen]
        assert mail["Content-Language"] == self.language
        found = re.findall(rf"^http\S+/{letter}/\S+$", body(mail, "plain"), re.MULTILINE)
        return found[0] if found else None

    def heading(self):
        return self.page.locator("h1").inner_text()

    def said(self):
        """What the page answers, in one line."""
        text = self.page.locator("[role=status]").inner_text()
        assert self.address not in self.page.content()
        return " ".join(text.split())

    def subscribe(self):
        """By the form at the end of a page."""
        self.page.goto(f"{self.house.base}/{self.language}/privacy")
        self.page.locator("#subscribe_address").fill(self.address)
        self.page.locator("main form button").click()
        assert self.page.url.endswith("/subscribe/sent")

    def confirm(self):
        self.page.goto(self.newest_link("c"))
        self.page.get_by_role("button").click()

    def save(self, change):
        self.page.locator(f"form:has(input[name=change][value={change}]) button").click()

    def ask(self, purpose):
        """Ask for a fresh link on the page, and follow it."""
        own = self.page.url
        self.page.locator(f"form:has(input[name=purpose][value={purpose}]) button").click()
        self.said()
        self.page.goto(self.newest_link("r"))
        return own


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_life_from_the_form_to_the_erasure(running, house, language):
    text, next_is, left, erased, changed = WORDS[language]
    with opened(running, java_script_enabled=False) as (page, asked):
        reader = Reader(house, page, language, f"life-{language}@reader.test")
        reader.subscribe()
        reader.confirm()
        own_page = reader.newest_link("p")

        page.goto(own_page)
        assert page.locator("html").get_attribute("lang") == language
        page.locator("#language-2").select_option(OTHER[language])
        reader.save("languages")
        assert reader.said().count(next_is) == 1
        assert reader.stored().chain == Chain((language, OTHER[language]))

        page.get_by_label(text).check()
        reader.save("text")
        reader.said()
        assert reader.stored().text_only

        until = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=20)
        page.locator("#until").fill(until.isoformat())
        reader.save("pause")
        assert long_date(until, language) in reader.said()
        assert reader.stored().paused_until == until
        reader.save("resume")
        reader.said()
        assert reader.stored().paused_until is None

        with page.expect_download() as download:
            own = reader.ask("data")
            page.get_by_role("button").click()
        kept = json.loads(download.value.path().read_text("utf-8"))
        assert (kept["address"], kept["languages"]) == (reader.address, [language, OTHER[language]])

        page.goto(own)
        reader.ask("address")
        old, reader.address = reader.address, f"moved-{language}@reader.test"
        page.locator("#address").fill(reader.address)
        page.get_by_role("button").click()
        reader.said()
        reader.confirm()
        assert changed in reader.heading()
        assert reader.stored().epoch == 1
        assert reader.newest_link("u", old) is None  # told, in a mail without links

        page.goto(f"{house.base}/u/{re.search('/u/([^?]+)', page_source(house, reader))[1]}?lang={language}")
        page.get_by_role("button").click()
        assert reader.heading() == left
        assert reader.stored().status is SubscriberStatus.UNSUBSCRIBED
        goodbye = reader.newest_link("p")
        page.goto(f"{goodbye}?lang={language}")
        reader.ask("erase")
        page.get_by_role("button").click()
        assert reader.heading() == erased
        assert reader.stored() is None
    assert [url for url in asked if not url.startswith(house.base + "/")] == []


def page_source(house, reader):
    """The link to leave in the welcome, which never falls."""
    address = f"life-{reader.language}@reader.test"
    return next(body(mail, "plain") for mail in mails(house.sink, address) if "/u/" in body(mail, "plain"))
