"""What an inspection finds in texts and mails."""

from dataclasses import replace

import pytest

from service.render.edition import RenderedEdition
from service.render.inspect import differing_facts, foreign_loads, inspect_mail, inspect_text, inspect_words, read_page
from service.render.inspect.facts import facts
from tests.unit.render.samples import BASE, text

GOOD = RenderedEdition(
    "en",
    "The week in Belarus",
    "p" * 90,
    '<h1>The\u00a0week</h1><a href="https://weekly.example.org/a">read</a>',
    "The week\n\nhttps://weekly.example.org/a\n",
    (),
)


def rules(remarks):
    return [(remark.rule, remark.blocks) for remark in remarks]


def mail_rules(**changes):
    return rules(inspect_mail(replace(GOOD, **changes), base_url=BASE))


def test_a_good_mail_gives_no_remark():
    assert mail_rules() == []


@pytest.mark.parametrize(
    ("kilo", "expected"), [(79, []), (81, [("weight", False)]), (94, [("weight", False)]), (96, [("weight", True)])]
)
def test_weight_warns_from_eighty_and_blocks_from_ninety_five(kilo, expected):
    filling = "я" * ((kilo * 1024 - len(GOOD.html.encode())) // 2)
    assert mail_rules(html=GOOD.html + filling) == expected


def test_heavy_styles_block():
    assert mail_rules(html=f"<style>{'a{}' * 6000}</style>{GOOD.html}") == [("styles", True)]


@pytest.mark.parametrize(
    ("length", "expected"), [(60, []), (61, [("subject-length", False)]), (90, [("subject-length", False)])]
)
def test_long_subjects_warn(length, expected):
    assert mail_rules(subject="s" * length) == expected


@pytest.mark.parametrize(("length", "expected"), [(79, 1), (80, 0), (110, 0), (111, 1)])
def test_preheaders_have_eighty_to_a_hundred_and_ten_characters(length, expected):
    assert len(mail_rules(preheader="p" * length)) == expected


@pytest.mark.parametrize(
    "html",
    [
        '<img src="https://tracker.example/p.gif">',
        '<img src="//tracker.example/p.gif">',
        '<img src="http://weekly.example.org/p.gif">',
        '<img srcset="https://a.example/1x.png 1x, https://a.example/2x.png 2x">',
        '<td background="https://a.example/b.png"></td>',
        "<p style=\"background:url('https://a.example/b.png')\"></p>",
        "<style>@import 'https://a.example/c.css';</style>",
        "<style>@font-face{src:url(https://a.example/f.woff2)}</style>",
        '<link rel="stylesheet" href="https://a.example/c.css">',
        '<!--[if mso]><img src="https://a.example/p.gif"><![endif]-->',
        '<img src="https://[broken">',
    ],
)
def test_whatever_another_host_would_see_blocks(html):
    assert mail_rules(html=GOOD.html + html) == [("foreign-host", True)] * (2 if "srcset" in html else 1)


def test_links_and_own_images_are_no_loads():
    html = f'<a href="https://a.example/">a</a><img src="cid:x"><img src="{BASE}/b.png"><img src="/c.png">'
    assert foreign_loads(read_page(html), BASE) == ()


def test_parts_that_differ_block():
    assert mail_rules(text="The week\n") == [("parity", True)]
    assert mail_rules(text=GOOD.text + "https://weekly.example.org/b\n") == [("parity", True)]
    assert mail_rules(html=GOOD.html + "<h2>More</h2>") == [("parity", True)]
    assert mail_rules(text="The week\n\n> [1] https://weekly.example.org/a\n") == []


@pytest.mark.parametrize(
    "marker", ["{{name}}", "{% if %}", "TODO", "XXX", "TBD", "TK", "tktk", "Lorem ipsum", "[[link]]", "<<<<<<<", "???"]
)
def test_places_left_open_block(marker):
    made = inspect_text(text("en", "Title", "Lead", f"One\n\nTwo {marker} three"), ())
    assert ("leftover", True) in rules(made)
    assert made[-1].line == 3
    assert ("leftover", True) in rules(inspect_words(f"A {marker} b", "en", "the subject"))


@pytest.mark.parametrize(
    "words", ["A task of TKs", "[[one](https://a.example/) two]{lang=en}", "Todos los días", "why?"]
)
def test_ordinary_words_are_no_leftovers(words):
    assert rules(inspect_text(text("en", "Title", "Lead", words), ())) == []


@pytest.mark.parametrize(
    ("language", "words", "letters"),
    [
        ("be", "Рада решила", ["и"]),
        ("be", "Площадь і ЩИТ", ["щ", "щ, и"]),
        ("be", "под'ъезд", ["ъ"]),
        ("ru", "Совет і горад", ["і"]),
        ("ru", "Быў совет", ["ў"]),
    ],
)
def test_letters_of_the_neighbours_alphabet_are_named(language, words, letters):
    made = [remark for remark in inspect_text(text(language, "Тэст", "Тэст", words), ()) if remark.rule == "alphabet"]
    assert len(made) == len(letters)
    for remark, each in zip(made, letters, strict=True):
        assert f"has {each}, which {language} lacks" in remark.message
        assert (remark.blocks, remark.line) == (False, 1)


def test_a_marked_passage_is_read_by_its_own_alphabet():
    assert inspect_text(text("be", "Тэст", "Тэст", "Так: [нас не спрашивали]{lang=ru}, `щит`."), ()) == []
    inner = inspect_text(text("be", "Тэст", "Тэст", "Так: [быў совет]{lang=ru}"), ())
    assert [remark.rule for remark in inner] == ["alphabet"]


def test_a_latin_letter_among_cyrillic_ones_is_found():
    made = inspect_text(text("be", "Тэст", "Тэст", "Пасл\u0061 IT-кампаніі і COVID-19-га"), ())
    assert [remark.message.split('"')[1] for remark in made] == ["Пасл\u0061"]


def test_an_empty_title_blocks():
    assert ("empty", True) in rules(inspect_text(text("en", " ", "Lead", "Body"), ()))


def test_what_markdown_refuses_blocks_with_its_line():
    made = inspect_text(text("en", "Title", "Lead", "One\n\n[x](javascript:1)"), ())
    assert [(remark.rule, remark.blocks, remark.line) for remark in made] == [("markdown", True, 3)]


@pytest.mark.parametrize(
    ("language", "words", "expected"),
    [
        ("en", "May 28th–31st, 2019", {"05-28", "05-31", "2019"}),
        ("be", "28–31 мая 2019", {"05-28", "05-31", "2019"}),
        ("ru", "28–31 мая 2019 г.", {"05-28", "05-31", "2019"}),
        ("en", "May 27 – June 2", {"05-27", "06-02"}),
        ("be", "27 мая – 2 чэрвеня", {"05-27", "06-02"}),
        ("ru", "27 мая – 2 июня", {"05-27", "06-02"}),
        ("en", "between May 13 and 17", {"05-13", "05-17"}),
        ("be", "з 13 да 17 мая", {"05-13", "05-17"}),
        ("be", "з 13 па 17 мая", {"05-13", "05-17"}),
        ("ru", "с 13 по 17 мая", {"05-13", "05-17"}),
        ("ru", "02.06.2019", {"06-02", "2019"}),
        ("en", "the 14th meeting, the 1990s, 4.50 %, 1,200 people, 09:30", {"14", "1990", "4.5", "1200", "9:30"}),
        ("be", "14-я сустрэча, 1990-я, 4,5 %, 1 200 чалавек, 9:30", {"14", "1990", "4.5", "1200", "9:30"}),
        ("ru", "14-я встреча, 1990-е, 4,5 %, 1\u00a0200 человек, 9:30", {"14", "1990", "4.5", "1200", "9:30"}),
        ("en", "on 3 July and Oct. 5", {"07-03", "10-05"}),
        ("en", "May they come? 7 may", {"05-07"}),
    ],
)
def test_numbers_and_dates_are_read_alike_in_all_languages(language, words, expected):
    assert facts(words, language) == expected


def test_facts_that_differ_between_two_languages_are_named():
    source = text("en", "Title", "On May 28", "1,200 people, 4.5 %. [n](https://a.example/77)\n\n1. one")
    same = text("be", "Загаловак", "28 мая", "1 200 чалавек, 4,5 %. [n](https://a.example/78)")
    wrong = text("be", "Загаловак", "29 мая", "1 200 чалавек, 4,5 %.")
    assert differing_facts(source, same) == []
    assert [remark.message for remark in differing_facts(source, wrong)] == [
        "05-28 stands in en but not in be; compare the two",
        "05-29 stands in be but not in en; compare the two",
    ]


@pytest.mark.parametrize(("columns", "expected"), [(4, []), (5, [("wide-table", False)])])
def test_a_table_too_wide_for_a_phone_warns(columns, expected):
    body = f"Numbers:\n\n|{' a |' * columns}\n|{'---|' * columns}\n|{' 1 |' * columns}"
    made = inspect_text(text("en", "Title", "Lead", body), ())
    assert rules(made) == expected
    assert [remark.line for remark in made] == [3] * len(made)
