"""The site in a real browser with JavaScript off: nothing asked of others, nothing run, everything readable."""

from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe

from service.domain.content import Article, Trend
from service.domain.weeks import Week
from service.store import issues
from service.store import publication as publications
from tests.browser.pictures import browser, sample
from tests.browser.reading import LANGUAGES, pages, release, served
from tests.unit.render.samples import text
from tests.unit.render.test_corpora import LINKS, SCRIPTS, TEMPLATES

pytestmark = pytest.mark.browser

SMALL, LARGE = 360, 1280
# What wcag asks for at its two levels, and what is good practice besides.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def running():
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with served(tmp_path_factory.mktemp("site")) as made:
        yield made


def opened(running, site, width, scheme="light", **options):
    """A window of that width, and the list of what it asks other hosts for."""
    context = running.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
    foreign = []
    context.on("request", lambda request: request.url.startswith(site.base) or foreign.append(request.url))
    return context, foreign


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [SMALL, LARGE])
def test_an_accessibility_checker_finds_nothing_and_no_one_else_is_asked(running, site, language, scheme, width):
    # The checker is a script; the pages have none, and the next tests open them with scripts switched off.
    context, foreign = opened(running, site, width, scheme, bypass_csp=True)
    page = context.new_page()
    for name, path in pages(language).items():
        page.goto(site.base + path)
        assert page.locator("html").get_attribute("lang") == language
        found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:160]) for each in found] == [], (name, path)
    assert foreign == []
    context.close()


@pytest.mark.parametrize("width", [320, SMALL, LARGE])
def test_no_page_is_wider_than_its_window(running, site, width):
    context, _foreign = opened(running, site, width)
    page = context.new_page()
    for language in LANGUAGES:
        for name, path in pages(language).items():
            page.goto(site.base + path)
            # Wide tables scroll in a place of their own. 320 px is also a window of 1280 px at 400 % (WCAG 1.4.10).
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, language)
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
    assert focused.get_attribute("href") == "#main"
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
    context.close()


def test_no_hostile_words_in_any_field_run_or_ask_for_anything(running, site):
    hostile = [*SCRIPTS, *TEMPLATES, *LINKS]
    week = Week.parse("2019-W23")
    publication, issue = sample()
    articles = tuple(
        Article(f"hostile-{number}", "west", "en", Trend.SAME, (words,), {"en": text("en", words, words, words)})
        for number, words in enumerate(hostile)
    )
    # Of each kind one that would end an attribute, an element and a block of data.
    worst = "\"'></title></script><img src=x onerror=alert(1)><script>alert(1)</script>"
    first, *others = publication.sections
    named = replace(
        publication,
        titles=dict.fromkeys(LANGUAGES, worst),
        taglines=dict.fromkeys(LANGUAGES, worst),
        postal_address=worst,
        sections=(replace(first, titles=dict.fromkeys(LANGUAGES, worst)), *others),
    )
    now = site.parts.clock.now()
    with site.parts.database.begin() as session:
        publications.save(session, named, now)
        issues.save(session, replace(issue, week=week, articles=articles, assets=()), now)
        release(session, week, now)
    paths = ["/en/", "/en/issues/", "/en/issues/2019-W23/", "/en/west/", "/en/power/", "/en/privacy", "/en/none"]
    paths += [f"/en/west/hostile-{number}" for number in range(len(hostile))]
    context, foreign = opened(running, site, LARGE, bypass_csp=True)
    context.add_init_script("window.ran = 0; window.alert = () => { window.ran += 1 }")
    page = context.new_page()
    try:
        for _ in range(100):
            page.goto(site.base + "/en/")
            if "onerror" in page.title():
                break
            page.wait_for_timeout(100)
        for path in paths:
            page.goto(site.base + path)
            page.evaluate("document.querySelectorAll('*').forEach(e => e.dispatchEvent(new MouseEvent('mouseover')))")
            assert page.evaluate("window.ran") == 0, path
            kinds = page.evaluate("[...document.scripts].map(script => script.type)")
            assert set(kinds) <= {"application/ld+json"}, path
            page.evaluate("[...document.scripts].forEach(script => JSON.parse(script.textContent))")
        assert foreign == []
    finally:
        context.close()
        with site.parts.database.begin() as session:
            publications.save(session, publication, site.parts.clock.now())
