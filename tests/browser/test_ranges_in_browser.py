"""Where a line ends: never inside a range of dates, `15–/21 красавіка`, however narrow its place is."""

import json

import pytest

from service.domain.chains import Chain
from service.domain.weeks import Week
from service.render.dates import week_range
from tests.browser.pictures import mail, opened, sample_edition, shown
from tests.browser.reading import LANGUAGES, pages

pytestmark = pytest.mark.browser

NARROW = 360
# Each range of days that is seen, and on how many lines it stands.
RANGES = r"""() => {
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    for (const match of walk.currentNode.textContent.matchAll(/\d+–\d+/g)) {
      const range = document.createRange();
      range.setStart(walk.currentNode, match.index);
      range.setEnd(walk.currentNode, match.index + match[0].length);
      const lines = new Set([...range.getClientRects()].map(box => box.top)).size;
      if (lines) found.push([match[0], lines]);
    }
  }
  return found;
}"""
# No place is wider than it must be; and what would be seen if nothing held a range together.
SQUEEZED = "body * { max-width: 1px !important; min-width: 0 !important; font-size: 16px }"
LOOSE = "span { white-space: normal !important }"


@pytest.fixture
def page(running):
    context = running.new_context(viewport={"width": NARROW, "height": 800}, bypass_csp=True)
    yield context.new_page()
    context.close()


def broken(page, least):
    """The ranges on more than one line, among no fewer than so many that are seen."""
    found = page.evaluate(RANGES)
    assert len(found) >= least
    return {words for words, lines in found if lines > 1}


def dated(language):
    """The pages that tell a week which lies inside one month, and how many such weeks there are at least."""
    of = pages(language)
    counts = {"home": 5, "archive": 15, "year": 2, "fallbacks": 1, "section": 15}
    return {of[name]: least for name, least in counts.items()} | {f"{of['section']}elite-2019-w16": 1}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_range_of_days_is_broken_on_a_page(page, site, language):
    for path, least in dated(language).items():
        page.goto(site.base + path)
        assert broken(page, least) == set(), path
        page.add_style_tag(content=SQUEEZED)
        assert broken(page, least) == set(), path
        page.add_style_tag(content=LOOSE)
        assert broken(page, least), path


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_range_of_days_is_broken_in_a_mail(running, language):
    html = opened(mail(sample_edition(Chain((language,)), "2019-W21")))
    with shown(running, html, NARROW) as (page, _asked):
        assert broken(page, 1) == set()
        page.add_style_tag(content=SQUEEZED)
        assert broken(page, 1) == set()
        page.add_style_tag(content=LOOSE)
        assert broken(page, 1) == {"20–26"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_where_there_is_no_line_to_break_the_range_is_as_it_is_written(page, site, language):
    written, made = week_range(Week(2019, 21), language), mail(sample_edition(Chain((language,)), "2019-W21"))
    assert written in made.text
    assert page.goto(f"{site.base}/{language}/feed.xml").text().count(f"<title>{written}</title>") == 1
    page.goto(site.base + pages(language)["fallbacks"])
    assert page.title().startswith(written)
    assert page.locator("meta[property='og:title']").get_attribute("content") == written
    assert json.loads(page.locator("script").inner_text())["name"].endswith(written)
