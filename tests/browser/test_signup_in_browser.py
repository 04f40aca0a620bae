"""A reader's way in, in a real browser: without JavaScript, readable, and asking nobody else for anything."""

import re
from contextlib import contextmanager

import pytest

from tests.flow.visitor import body, mails

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LANGUAGES = ("en", "be", "ru")
HEADINGS = {
    "en": (
        "Subscribe by email",
        "Check your mailbox",
        "Confirm the subscription",
        "You are subscribed",
        "Already confirmed",
    ),
    "be": ("Падпісацца на рассылку", "Праверце пошту", "Пацвердзіць падпіску", "Вы падпісаліся", "Ужо пацверджана"),
    "ru": ("Подписаться на рассылку", "Проверьте почту", "Подтвердить подписку", "Вы подписались", "Уже подтверждено"),
}


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
    form, sent, confirm, welcome, already = HEADINGS[language]
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

        link = link_of(house, address)
        page.goto(link)
        assert page.locator("h1").inner_text() == confirm
        page.get_by_role("button").click()
        assert page.locator("h1").inner_text() == welcome
        page.reload()
        assert page.locator("h1").inner_text() == already
        page.goto(link)
        assert (page.locator("h1").inner_text(), page.locator("form").count()) == (already, 0)
    assert [url for url in asked if not url.startswith(house.base + "/")] == []
