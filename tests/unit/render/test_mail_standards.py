"""The rules for HTML and text of a mail, held against every edition of a sample issue."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from service.domain.chains import every_chain
from service.domain.content import edition
from service.domain.slots import MARKERS, Slot
from service.render.edition import render_edition
from service.render.inspect import foreign_loads, inspect_mail, read_page
from service.render.markdown import spoken
from service.render.templates import load_templates
from service.render.tokens import DARK, LIGHT
from tests.unit.render.samples import BASE, issue, publication

VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}


class Tree(HTMLParser):
    """Every tag with its attributes, its depth's language and the text below links and headings."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.faults, self.links = [], [], [], []
        self._link = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        names = [name for name, _value in attrs]
        if len(names) != len(set(names)):
            self.faults.append(f"<{tag}> says an attribute twice")
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag == "a":
            self._link = [values, ""]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag == "a":
            self.links.append(tuple(self._link))
            self._link = None
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if self._link is not None:
            self._link[1] += data

    def all(self, *names):
        return [values for tag, values in self.tags if tag in names]


@pytest.fixture(scope="module", params=every_chain(("en", "be", "ru")), ids=str)
def mail(request):
    shown = edition(publication(), issue(), request.param)
    return shown, render_edition(shown, load_templates().catalogues, base_url=BASE)


@pytest.fixture(scope="module")
def tree(mail):
    return Tree(mail[1].html)


def test_the_inspection_has_no_remark(mail):
    assert inspect_mail(mail[1], base_url=BASE) == []


def test_tags_are_closed_in_order(tree):
    assert tree.faults == []
    assert tree.open == []


def test_language_and_direction_stand_on_page_and_wrapper(mail, tree):
    shown, made = mail
    assert tree.all("html")[0]["lang"] == shown.language
    assert tree.all("html")[0]["dir"] == "ltr"
    wrappers = [values for _tag, values in tree.tags if values.get("role") == "article"]
    assert len(wrappers) == 1
    assert wrappers[0]["aria-roledescription"] == "email"
    assert wrappers[0]["aria-label"] == made.subject
    assert (wrappers[0]["lang"], wrappers[0]["dir"]) == (shown.language, "ltr")


def test_the_title_is_the_subject(mail):
    assert f"<title>{mail[1].subject}</title>" in mail[1].html.replace("\n", " ")


def test_every_foreign_block_says_its_language_and_no_other_does(mail, tree):
    shown, _made = mail
    headings = [values.get("lang", shown.language) for values in tree.all("h2")]
    assert headings == [article.text.language for article in shown.articles]
    blocks = [values["lang"] for values in tree.all("div") if "lang" in values and values.get("role") != "article"]
    assert blocks == [article.text.language for article in shown.articles if article.fallback]


def test_a_note_says_which_language_is_shown_instead(mail):
    shown, made = mail
    fallbacks = sum(article.fallback for article in shown.articles)
    assert made.html.count('class="note"') == fallbacks


def test_layout_tables_are_presentation_and_content_tables_are_tables(tree):
    for values in tree.all("table"):
        own = values.get("style", "").startswith("margin:20px 0 0;width:100%")
        assert (values.get("role") is None) if own else (values["role"] == "presentation")
    for values in tree.all("th"):
        assert values["scope"] == "col"


def test_one_title_and_one_second_heading_per_article(mail):
    shown, made = mail
    levels = [level for level, _words in read_page(made.html).headings]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert levels.count(2) == len(shown.articles)
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_image_has_a_description_and_a_width(tree):
    for values in tree.all("img"):
        assert values["alt"]
        assert int(values["width"]) <= 536


def test_no_visible_word_is_smaller_than_sixteen_pixels(mail):
    sizes = [int(size) for size in re.findall(r"font-size:\s*(\d+)px", mail[1].html)]
    assert {size for size in sizes if 1 < size < 16} == set()


def test_every_inline_colour_is_a_token(mail):
    colours = set(re.findall(r"#[0-9a-f]{6}\b", mail[1].html))
    known = {getattr(palette, name) for palette in (LIGHT, DARK) for name in palette.__slots__}
    # MJML hides the preheader in white.
    assert colours - known <= {"#ffffff"}


def test_links_are_underlined_and_say_where_they_lead(mail, tree):
    for values, words in tree.links:
        assert "text-decoration:underline" in values["style"]
        assert len(words.strip()) > 2
        assert values["href"].startswith(("https://", "http://", "mailto:"))
        label = values.get("aria-label")
        assert label is None or label.startswith(" ".join(words.split()))


def test_links_of_their_own_are_tall_enough_to_hit(tree):
    for values, _words in tree.links:
        own_line = "inline-block" in values["style"]
        if own_line:
            assert "padding:3px 0" in values["style"]  # with a line of 24 px: 30 px


def test_languages_are_named_by_themselves_with_their_codes(mail, tree):
    names = {"English": "en", "Беларуская": "be", "Русский": "ru"}
    seen = [(values.get("lang"), values.get("hreflang")) for values, words in tree.links if words in names]
    expected = [(names[words],) * 2 for _values, words in tree.links if words in names]
    assert seen == expected
    assert len(seen) >= 2


def test_styles_are_light_and_flat(mail):
    styles = re.findall(r"<style\b[^>]*>(.*?)</style>", mail[1].html, re.DOTALL)
    assert sum(len(css.encode()) for css in styles) < 16 * 1024
    for css in styles:
        depth = 0
        for token in re.findall(r"@[a-z-]+|[{}]", css):
            if token.startswith("@"):
                assert depth == 0, "an at-rule stands inside another"
            depth += {"{": 1, "}": -1}.get(token, 0)
        assert depth == 0


def test_dark_mode_is_asked_for_in_both_dialects(mail):
    html = mail[1].html
    assert "@media (prefers-color-scheme: dark)" in html
    assert "[data-ogsc]" in html
    assert "[data-ogsb]" in html
    assert 'content="light dark"' in html


def test_nothing_is_loaded_from_any_host(mail):
    page = read_page(mail[1].html)
    assert foreign_loads(page, BASE) == ()
    assert all(address.startswith("cid:") for address in page.loads)


def test_there_is_no_script_form_or_font(tree):
    tags = {tag for tag, _values in tree.tags}
    assert (
        tags & {"script", "form", "input", "button", "iframe", "object", "embed", "video", "audio", "link", "base"}
        == set()
    )
    assert not [name for _tag, values in tree.tags for name in values if name.startswith("on")]


def test_lines_fit_any_server(mail):
    for part in (mail[1].html, mail[1].text):
        assert max(len(line.encode()) for line in part.split("\n")) <= 998
        assert "\r" not in part


def test_few_lines_are_long(mail):
    """What is longer than 120 octets is one value, one word or a run of closing tags."""
    sizes = sorted(len(line.encode()) for line in mail[1].html.split("\n"))
    assert sizes[len(sizes) * 9 // 10] <= 160
    assert sizes[-1] <= 420


def test_the_text_part_is_wrapped_and_its_links_stand_alone(mail):
    for line in mail[1].text.split("\n"):
        assert len(line) <= 72 or re.fullmatch(r"(\[\d+\] )?https?://\S+", line), line
        assert "http" not in line or re.fullmatch(r"(\[\d+\] )?https?://\S+", line), line
        assert line == line.rstrip()


def test_the_text_part_ends_with_the_unsubscribe_link(mail):
    shown, made = mail
    link = f"{BASE}/u/{MARKERS[Slot.UNSUBSCRIBE]}?lang={shown.language}"
    assert made.text.rstrip("\n").split("\n")[-1] == link
    # Both open in the edition's language, whatever the browser asks for.
    assert f'href="{link}"' in made.html


WHY = {"en": "because you are subscribed", "be": "бо падпісаны на яго", "ru": "потому что подписаны на него"}


def test_both_parts_say_why_they_came_as_it_is_true_of_every_reader(mail):
    """Of those, too, whom an operator or a file has added, who confirmed nothing."""
    shown, made = mail
    for part in (made.html, made.text):
        words = " ".join(part.replace("\u00a0", " ").split())
        assert WHY[shown.language] in words
        for said in ("you confirmed", "пацвердзілі", "подтвердили"):
            assert said not in words


def test_the_text_part_numbers_its_contents_and_words_the_trends(mail):
    shown, made = mail
    contents = " ".join(made.text.split("=" * 72)[1].split())
    wording = shown.publication.trends
    for number, article in enumerate(shown.articles, start=1):
        assert f"{number}. {article.text.title}" in contents
        assert wording[article.article.trend].short[shown.language] in contents


def test_the_mail_carries_the_full_text(mail):
    shown, made = mail
    html = " ".join(made.html.replace("\u00a0", " ").split())
    for article in shown.articles:
        assert article.text.title in html
        assert article.text.lead in html
        body = "".join(words for _line, _language, words in spoken(article.text.body))
        assert [word for word in re.findall(r"\w+", body) if word not in html] == []


def test_the_order_of_an_article(mail):
    shown, made = mail
    html = " ".join(made.html.replace("\u00a0", " ").split())
    for article in shown.articles:
        start = html.index("<h2")
        html = html[start:]
        title = html.index(article.text.title)
        badge = html.index(f'class="t-{article.article.trend}"')
        lead = html.index(article.text.lead)
        more = html.index('aria-label="')
        assert title < badge < lead < more
        if article.fallback:
            assert badge < html.index('class="note"') < lead
        html = html[more:]


def test_the_footer_holds_what_a_reader_must_find(mail):
    shown, made = mail
    words = load_templates().catalogues[shown.language]
    footer = made.html[made.html.rindex("/p/") - 2500 :].replace("\u00a0", " ").replace("\n", " ")
    for expected in (
        words("Change languages"),
        words("Unsubscribe"),
        words("All issues"),
        words("Privacy"),
        words("We do not track opens or clicks."),
        shown.publication.postal_address,
    ):
        assert expected in footer
    assert f"{BASE}/{shown.language}/privacy" in footer
    assert f"{BASE}/{shown.language}/issues/" in footer
    assert f"{BASE}/{shown.language}/feed.xml" in footer


def test_the_preheader_is_padded(mail):
    assert mail[1].preheader in mail[1].html.replace("\n", " ")
    assert "\u034f\u200c\u00a0" in mail[1].html
