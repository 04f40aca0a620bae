"""A reader's way in, in a real browser: without JavaScript, readable, and asking nobody else for anything."""

import re
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.flow.visitor import body, mails

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LANGUAGES = ("en", "be", "ru")
HEADINGS = {
    "en": ("Subscribe by email", "Check your mailbox", "Confirm the subscription", "You are subscribed"),
    "be": ("Падпісацца на рассылку", "Праверце пошту", "Пацвердзіць падпіску", "Вы падпісаліся"),
    "ru": ("Подписаться на рассылку", "Проверьте почту", "Подтвердить подписку", "Вы подписались"),
}
TARGETS = """() => [...document.querySelectorAll("a:not(.skip), button, input:not([type=hidden]):not(.trap input), label.choice")]
  .filter(one => getComputedStyle(one).display !== "inline")
  .map(one => [one.outerHTML.slice(0, 60), one.getBoundingClientRect().height])"""


@contextmanager
def opened(running, **settings):
    """A page, and every address that it asks for."""
    context = running.new_context(**settings)
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    try:
        yield page, asked
        assert context.cookies() == []
    finally:
        context.close()


def link_of(house, address):
    house.wait_for(lambda: mails(house.sink, address), why="no confirmation came")
    (link,) = re.findall(r"^http\S+/c/\S+$", body(mails(house.sink, address)[0], "plain"), re.MULTILINE)
    return link


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_reader_comes_in_without_javascript(running, house, language):
    form, sent, confirm, welcome = HEADINGS[language]
    address = f"browser-{language}@reader.test"
    with opened(running, java_script_enabled=False) as (page, asked):
        page.goto(f"{house.base}/{language}/issues/")
        page.get_by_role("link", name=form).click()
        assert page.locator("h1").inner_text() == form

        page.locator("#address").fill("browser")
        page.locator("#address").press("Enter")
        page.locator('[role=alert] a[href="#address"]').click()
        assert page.url.endswith("#address")
        assert page.locator("#address").input_value() == "browser"

        page.locator("#address").fill(address)
        page.get_by_role("checkbox").nth(1).check()
        page.locator("form button").click()
        assert (page.url, page.locator("h1").inner_text()) == (f"{house.base}/{language}/subscribe/sent", sent)

        page.goto(link_of(house, address))
        assert page.locator("h1").inner_text() == confirm
        page.get_by_role("button").click()
        assert page.locator("h1").inner_text() == welcome
        page.reload()
        assert page.locator("h1").inner_text() == welcome
    assert [url for url in asked if not url.startswith(house.base + "/")] == []


def pages(house, page, language):
    """Each page of the way in, shown; its name."""
    address = f"axe-{language}@reader.test"
    form = f"{house.base}/{language}/subscribe"
    page.goto(form)
    yield "form"
    page.locator("#address").fill("nothing")
    for box in page.get_by_role("checkbox").all():
        box.uncheck()
    page.locator("form button").click()
    yield "errors"
    page.goto(form)
    page.locator("#address").fill(address)
    page.locator("form button").click()
    yield "sent"
    page.goto(link_of(house, address))
    yield "confirm"
    page.get_by_role("button").click()
    yield "welcome"
    page.goto(f"{house.base}/c/{'A' * 48}?lang={language}")
    yield "stale"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("language", LANGUAGES)
def test_an_accessibility_checker_finds_nothing_and_every_target_is_large(running, house, language, width, scheme):
    # The checker is a script, which the pages' policy would not let in.
    settings = {"bypass_csp": True, "viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    seen = []
    with opened(running, **settings) as (page, _asked):
        for name in pages(house, page, language):
            found = Axe().run(page).response["violations"]
            assert [(each["id"], each["nodes"][0]["html"][:120]) for each in found] == [], name
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert [target for target in page.evaluate(TARGETS) if target[1] < 24] == [], name
            seen.append(name)
    assert len(seen) == 6
