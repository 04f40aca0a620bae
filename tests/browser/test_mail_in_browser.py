"""The mail and the page in a real browser: nothing loaded, nothing run, everything readable and reachable."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from service.domain.chains import Chain
from service.domain.content import Article, Trend, edition
from service.render.tokens import contrast
from tests.browser.pictures import (
    CHAINS,
    LOOKS,
    WIDTHS,
    mail,
    notices,
    opened,
    reader_notices,
    sample_edition,
    shown,
    web_page,
)
from tests.unit.render.samples import issue, publication, text, web_issue
from tests.unit.render.test_corpora import LINKS, SCRIPTS, TEMPLATES

pytestmark = pytest.mark.browser

# Text that a person sees, with its colour and the colour of the first ground below it that is not transparent.
PAIRS = """() => {
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    const style = getComputedStyle(element);
    let ground = element, colour = "rgba(0, 0, 0, 0)";
    while (ground && colour === "rgba(0, 0, 0, 0)") {
      colour = getComputedStyle(ground).backgroundColor; ground = ground.parentElement;
    }
    found.push([node.textContent.trim().slice(0, 40), style.color, colour, parseFloat(style.fontSize)]);
  }
  return found;
}"""
TARGETS = """() => [...document.querySelectorAll("a")].filter(a => getComputedStyle(a).display !== "inline")
  .map(a => [a.textContent, a.getBoundingClientRect().height])"""

# Each word of the heads of tables, and over how many lines it is spread.
LINES_OF_HEADS = """() => [...document.querySelectorAll("th")].flatMap(head => {
  const node = document.createTreeWalker(head, NodeFilter.SHOW_TEXT).nextNode();
  return [...node.data.matchAll(/\\S+/g)].map(word => {
    const range = document.createRange();
    range.setStart(node, word.index); range.setEnd(node, word.index + word[0].length);
    return [word[0], new Set([...range.getClientRects()].map(box => Math.round(box.top))).size];
  });
})"""

HOVER = "document.querySelectorAll('*').forEach(element => element.dispatchEvent(new MouseEvent('mouseover')))"


def hexadecimal(css):
    channels = [int(part) for part in css[css.index("(") + 1 : -1].split(",")[:3]]
    return "#" + "".join(f"{channel:02x}" for channel in channels)


@pytest.fixture(scope="module")
def documents():
    made = {str(chain): opened(mail(sample_edition(chain))) for chain in CHAINS}
    made["fallbacks"] = opened(mail(sample_edition(CHAINS[1], "2019-W21")))
    made["web"] = web_page(sample_edition(CHAINS[1], "2019-W21"))
    return made | notices()


# What is asked of a page besides, such as a landmark around all of it, a mail program has no use for.
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
MAILS = [*map(str, CHAINS), "fallbacks"]
NOTICES = ["issue-blocked", "slot-missed", "mailing-trouble"]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
@pytest.mark.parametrize("name", ["en", "ru,be,en", "fallbacks", "web", "issue-blocked"])
def test_it_can_be_read_at_every_width_and_asks_nobody(running, documents, name, look):
    if name == "web" and not look.styled:
        look = LOOKS[0]
    for width in WIDTHS:
        with shown(running, documents[name], width, look) as (page, asked):
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            pairs = page.evaluate(PAIRS)
            assert len(pairs) > 5
            assert asked == []
        for words, colour, ground, size in pairs:
            under = "#ffffff" if ground == "rgba(0, 0, 0, 0)" else hexadecimal(ground)
            assert contrast(hexadecimal(colour), under) >= 4.5, (words, colour, ground)
            assert size >= 16, (words, size)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MAILS, *NOTICES, "web"])
def test_an_accessibility_checker_finds_nothing_serious(running, documents, name):
    for look in LOOKS[:2]:
        with shown(running, documents[name], 600, look) as (page, _asked):
            results = Axe().run(page, options={"runOnly": WCAG})
        found = [(each["id"], each["nodes"][0]["html"][:120]) for each in results.response["violations"]]
        assert found == [], look.name


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "be", "ru"])
def test_every_notice_to_a_reader_is_readable_on_a_phone(running, language):
    for name, html in reader_notices(language).items():
        for look in LOOKS:
            with shown(running, html, 360, look) as (page, asked):
                assert page.evaluate("document.documentElement.scrollWidth") <= 360, (name, look.name)
                for words, colour, ground, size in page.evaluate(PAIRS):
                    under = "#ffffff" if ground == "rgba(0, 0, 0, 0)" else hexadecimal(ground)
                    assert contrast(hexadecimal(colour), under) >= 4.5, (name, look.name, words)
                    assert size >= 16, (name, words)
                if look.styled:
                    found = Axe().run(page, options={"runOnly": WCAG}).response["violations"]
                    assert [each["id"] for each in found] == [], (name, look.name)
                assert asked == []


@pytest.mark.parametrize("kind", ["mail", "web"])
@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_no_short_word_of_a_tables_head_is_cut_on_a_phone(running, chain, kind):
    made = sample_edition(chain)
    html = opened(mail(made)) if kind == "mail" else web_page(made)
    with shown(running, html, 360) as (page, _asked):
        lines = page.evaluate(LINES_OF_HEADS)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    short = {word: count for word, count in lines if len(word) <= 7}
    assert len(short) >= 4
    assert set(short.values()) == {1}, short


@pytest.mark.parametrize("name", [*MAILS[:2], "web"])
def test_links_can_be_hit_with_a_thumb(running, documents, name):
    with shown(running, documents[name], 360) as (page, _asked):
        targets = page.evaluate(TARGETS)
    assert len(targets) >= 8
    assert [target for target in targets if target[1] < 24] == []


def test_the_browser_would_notice_what_runs_and_what_is_asked_for(running):
    html = "<p onmouseover='alert(1)'>a</p><script>alert(1)</script><img src='https://evil.example/p.gif'>"
    with shown(running, html, 600) as (page, asked):
        page.evaluate(HOVER)
        assert page.evaluate("window.ran") == 2
        assert asked == ["https://evil.example/p.gif"]


def test_no_hostile_words_run_or_ask_for_anything(running):
    from service.render.edition import render_edition
    from service.render.templates import load_templates

    catalogues = load_templates().catalogues
    everything = [*SCRIPTS, *TEMPLATES, *LINKS]
    articles = tuple(
        Article(f"a{number}", "elite", "en", Trend.SAME, (words,), {"en": text("en", words, words, words)})
        for number, words in enumerate(everything)
    )
    made = edition(publication(), issue(articles=articles), Chain(("en",)))
    for html in (
        opened(render_edition(made, catalogues, base_url="https://weekly.example.org")),
        web_issue(made),
    ):
        with shown(running, html.replace("/static/style.css", "data:text/css,"), 600) as (page, asked):
            page.evaluate(HOVER)
            assert page.evaluate("window.ran") == 0
            assert [url for url in asked if not url.startswith("https://weekly.example.org/en/issues/")] == []
            # What a search engine reads, a browser does not run.
            kinds = page.evaluate("[...document.scripts].map(script => script.type)")
            assert set(kinds) <= {"application/ld+json"}
