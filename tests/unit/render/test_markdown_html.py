"""A text as HTML, for the mail and for the web."""

import re

import pytest

from service.render.inspect import read_page
from service.render.markdown_html import MAIL, WEB_ARTICLE, WEB_ISSUE, body_html
from service.render.pictures import PlacedImage

IMAGES = {"bridge.png": PlacedImage("cid:abc@weekly.example.org", 1200, 600), "dot.png": PlacedImage("cid:d@x", 40, 40)}
FILES = {"bridge.png": "https://weekly.example.org/en/issues/2019-W22/bridge.png"}


def mail(body):
    return str(body_html(body, MAIL, IMAGES, FILES))


def web(body, dress=WEB_ISSUE):
    return str(body_html(body, dress, IMAGES, FILES))


def test_headings_stand_below_the_articles_own():
    def levels(dress):
        return [level for level, _words in read_page(web("### a\n\n#### b\n\n###### c", dress)).headings]

    assert levels(WEB_ISSUE) == [3, 4, 6]
    assert levels(WEB_ARTICLE) == [2, 3, 5]
    assert [level for level, _words in read_page(mail("# a\n\n### b")).headings] == [3, 3]


def test_tables_of_a_text_are_real_tables():
    html = mail("| Year | Members |\n|---|--:|\n| 2018 | 24 |")
    assert html.count('<th scope="col"') == 2
    assert "role" not in html
    assert html.count("text-align:right") == 2


@pytest.mark.parametrize(
    ("heads", "whole"),
    [
        (["Вобласць", "Школ", "Шлях цяпер, км", "З верасня, км"], [False, True, True, False]),
        (["Region", "Schools", "Now, km", "From September, km"], [True, True, True, False]),
        (["Партыйнасць", "Гадоў"], [True, True]),
        (["2019", "2020", "2021", "2022", "2023", "2024", "2025"], [True] * 7),
        (["2018,", "2019,", "2020,", "2021,", "2022,", "2023,"], [False] * 6),
        (["[Школ](https://example.org/)", ""], [False, True]),
    ],
)
def test_short_words_of_a_tables_head_stay_whole_and_long_ones_give_way(heads, whole):
    def row(cells):
        return f"| {' | '.join(cells)} |\n"

    body = row(heads) + row(["--:"] * len(heads)) + row(["1"] * len(heads))
    # Another table beside it, whose one long word is its own matter.
    body += "\n" + row(["Сельскагаспадарчых"]) + row(["---"]) + row(["1"])
    said = re.findall(r"<th [^>]*overflow-wrap:(\w+)", mail(body))
    assert said == ["normal" if each else "anywhere" for each in whole] + ["normal"]
    assert re.findall(r'<th [^>]*class="number( whole)?"', web(body)) == [" whole" if each else "" for each in whole]
    assert web(body).count("whole") == sum(whole) + 1


def test_a_line_break_between_two_tags_stays_a_space():
    # MJML drops white space with a line feed between two tags.
    assert "</strong> <em>" in mail("**two**\n*three*")


def test_links_are_underlined_in_the_mail_and_bare_on_the_web():
    assert 'href="https://example.org/?a=1&amp;b=2"' in mail("[x](https://example.org/?a=1&b=2)")
    assert "text-decoration:underline" in mail("[x](https://example.org/)")
    assert web("[x](https://example.org/)") == '<p><a href="https://example.org/">x</a></p>'


def test_a_link_to_a_file_leads_to_the_site():
    assert f'href="{FILES["bridge.png"]}"' in mail("[picture](bridge.png)")


def test_an_image_is_no_wider_than_the_column_and_no_larger_than_itself():
    assert 'width="536"' in mail("![a bridge](bridge.png)")
    small = mail("![a dot](dot.png)")
    assert 'width="40"' in small
    assert "max-width:40px" in small


def test_a_refused_image_leaves_its_description():
    assert mail("![a tower](tower.png)") == '<p style="margin:16px 0 0">a tower</p>'


def test_a_passage_in_another_language_carries_it():
    assert '<span lang="ru" dir="ltr">нас не спрашивали</span>' in mail("так: [нас не спрашивали]{lang=ru}")


def test_the_web_has_no_inline_styles_but_alignment():
    html = web("a `b`\n\n### c\n\n> d\n\n- e\n\n![a bridge](bridge.png)")
    assert "style=" not in html
    assert "class=" not in html


def test_one_letter_words_do_not_end_a_line_in_cyrillic():
    assert "у\u00a0доме і\u00a0з\u00a0ёй\u00a0— так" in mail("у доме і з ёй — так")
    assert "27\u00a0мая" in mail("27 мая")
    assert "каля 210\u00a0000 і\u00a04,5\u00a0%" in mail("каля 210 000 і 4,5 %")
    assert "з\u00a0<em>" in mail("два з *трох*")
    assert "\u00a0" not in mail("a b - I am")


@pytest.mark.parametrize("literal", ["&nbsp;", "&amp;", "\\*", "a\\_b"])
def test_typed_entities_and_escapes_do_not_break_the_mail(literal):
    assert "<p" in mail(f"x {literal} y")
