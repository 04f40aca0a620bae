"""The site in a real browser with JavaScript off: nothing asked of others, nothing run, everything readable."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.answers import answers, empty_pages
from tests.browser.reading import LANGUAGES, own_pages, pages, served

pytestmark = pytest.mark.browser

SMALL, LARGE = 360, 1280
# What wcag asks for at its two levels, and what is good practice besides.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOURS = ["color-contrast", "link-in-text-block"]
# What a thumb has to hit, but for links within a text, with its height.
TARGETS = """() => [...document.querySelectorAll("a:not(.skip), button, input:not([type=hidden]):not(.trap input), label.choice")]
  .filter(one => getComputedStyle(one).display !== "inline")
  .map(one => [one.outerHTML.slice(0, 60), one.getBoundingClientRect().height])"""


def opened(running, site, width, scheme="light", **options):
    """A window of that width, and the list of what it asks other hosts for."""
    context = running.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
    foreign = []
    context.on("request", lambda request: request.url.startswith(site.base) or foreign.append(request.url))
    return context, foreign


def found_by(checker, page, rules):
    # A page that is looked at several times is given the checker's half a megabyte once.
    if not page.evaluate("'axe' in window"):
        page.evaluate(checker.axe_script)
    options = {"runOnly": rules, "resultTypes": ["violations"]}
    found = page.evaluate("options => axe.run(document, options)", options)
    return [(each["id"], each["nodes"][0]["html"][:160]) for each in found["violations"]]


def wrong_with(checker, page):
    """What is wrong with the page that is shown, on a phone and on a desk, by day and by night."""
    wrong = []
    # Light and dark differ in colours alone: of what they change the second look at a width asks.
    for width, scheme, rules in (
        (SMALL, "light", RULES),
        (SMALL, "dark", COLOURS),
        (LARGE, "dark", RULES),
        (LARGE, "light", COLOURS),
    ):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        wrong += [(width, scheme, each) for each in found_by(checker, page, rules)]
        wrong += [(width, target) for target in page.evaluate(TARGETS) if target[1] < 24]
    return wrong


def wider_than(page):
    """The first width of a window that the page is wider than; None where there is none."""
    for width in (320, SMALL, LARGE):
        page.set_viewport_size({"width": width, "height": 800})
        # Wide tables scroll in a place of their own. 320 px is also a window of 1280 px at 400 % (WCAG 1.4.10).
        if page.evaluate("document.documentElement.scrollWidth") > width:
            return width
    return None


def everything(site, page, language):
    """Each page of the site and each answer to its forms, shown; its name."""
    for name, path in (pages(language) | own_pages(site, language)).items():
        page.goto(site.base + path)
        yield name
    yield from answers(site, page, language)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    with served(tmp_path_factory.mktemp("bare"), earlier=None) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_an_accessibility_checker_finds_nothing_and_no_one_else_is_asked(running, site, language):
    # The checker is a script; the pages have none, and other tests open them with scripts switched off.
    context, foreign = opened(running, site, SMALL, bypass_csp=True)
    page, checker, seen = context.new_page(), Axe(), []
    for name in everything(site, page, language):
        assert page.locator("html").get_attribute("lang") == language
        assert wrong_with(checker, page) == [], name
        seen.append(name)
    assert len(seen) == len(set(seen)) > 40
    assert foreign == []
    context.close()


@pytest.mark.slow
def test_an_accessibility_checker_finds_nothing_before_there_is_anything(running, bare):
    context, foreign = opened(running, bare, SMALL, bypass_csp=True)
    page, checker, seen = context.new_page(), Axe(), []
    for name, language in empty_pages(bare, page):
        assert page.locator("html").get_attribute("lang") == language
        assert (wrong_with(checker, page), wider_than(page)) == ([], None), name
        seen.append((name, language))
    assert len(seen) == 9
    assert foreign == []
    context.close()


def test_the_checker_sees_what_cannot_be_read_in_the_dark_alone(running, site):
    context, _foreign = opened(running, site, SMALL, bypass_csp=True)
    page = context.new_page()
    page.goto(f"{site.base}/en/privacy")
    page.add_style_tag(content="main li { color: #1a1f24 } main a { outline: 0 }")
    assert found_by(Axe(), page, COLOURS) == []
    page.emulate_media(color_scheme="dark")
    assert {rule for rule, _html in found_by(Axe(), page, COLOURS)} == {"color-contrast"}
    page.evaluate("document.documentElement.removeAttribute('lang')")
    assert "html-has-lang" in {rule for rule, _html in found_by(Axe(), page, RULES)}
    context.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_page_is_wider_than_its_window_and_every_form_is_answered_without_scripts(running, site, language):
    context, foreign = opened(running, site, SMALL, java_script_enabled=False)
    page = context.new_page()
    assert {name: width for name in everything(site, page, language) if (width := wider_than(page))} == {}
    assert foreign == []
    assert context.cookies() == []
    context.close()


def test_a_reader_without_scripts_goes_from_the_first_page_to_an_article_and_to_its_translation(running, site):
    context, foreign = opened(running, site, SMALL, java_script_enabled=False, locale="be-BY")
    page = context.new_page()
    page.goto(f"{site.base}/")
    assert page.url == f"{site.base}/be/"
    page.locator("ol.brief a").first.click()
    assert page.url == f"{site.base}/be/ulada/supervisory-boards"
    page.locator(".bar").get_by_text("Русский").click()
    assert page.url == f"{site.base}/ru/vlast/supervisory-boards"
    page.locator("article .label a").click()
    assert page.url == f"{site.base}/ru/vlast/"
    page.locator(".bar").get_by_text("Все номера").click()
    page.locator("table.weeks td a").first.click()
    assert page.locator("article h1").count() == 1
    assert foreign == []
    assert context.cookies() == []
    context.close()


def test_the_way_by_keyboard_begins_with_a_link_past_the_bar(running, site):
    context, _foreign = opened(running, site, LARGE)
    page = context.new_page()
    page.goto(site.base + "/en/issues/")
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.get_attribute("href") == "#main_text"
    assert focused.bounding_box()["x"] >= 0
    context.close()


def test_on_paper_there_is_black_on_white_and_no_navigation(running, site):
    context, _foreign = opened(running, site, LARGE, "dark")
    page = context.new_page()
    page.goto(site.base + "/be/issues/2019-W22/")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.querySelector('.sheet')).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".bar").is_visible()
    assert page.locator("article h2").first.is_visible()
    # A form is of no use there, nor is its heading.
    shown = [one.inner_text() for one in page.locator("h1, h2, h3").all() if one.is_visible()]
    assert "Падпісацца" not in " ".join(shown)
    context.close()
