"""What a text may hold: each refusal names the thing, its line and the mend."""

import pytest
from markdown_it.ruler import Ruler

from service.render import markdown
from service.render.markdown import check_body, check_words, image_names, parse, spoken

FILES = {"bridge.png"}


def messages(body):
    return [(finding.line, finding.message) for finding in check_body(body, FILES)]


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        ("Plain <b>bold</b>", 1, 'raw HTML "<b>" is not sent'),
        ("One\n\n<script>alert(1)</script>", 3, 'raw HTML "<script>alert(1)</script>" is not sent'),
        ("One\ntwo <img src=x onerror=alert(1)>", 2, "raw HTML"),
        ("<!-- note -->", 1, "raw HTML"),
        ("<?php echo 1 ?>", 1, "raw HTML"),
        ("[x](javascript:alert(1))", 1, 'link "javascript:alert(1)" runs or embeds something'),
        ("[x](JaVaScRiPt:alert(1))", 1, "runs or embeds something"),
        ("[x](java&#115;cript:alert(1))", 1, "runs or embeds something"),
        ("[x](data:text/html;base64,PHA+)", 1, "runs or embeds something"),
        ("[x](vbscript:msgbox(1))", 1, "runs or embeds something"),
        ("a\n\nb\n[x](//evil.example/a)", 4, "leaves out the scheme; write https://evil.example/a"),
        ("[x](/\\evil.example)", 1, "relative to nothing"),
        ("[x](ftp://example.org/)", 1, "has a scheme that mails do not open"),
        ("[x](https://)", 1, "names no valid host"),
        ("[x](https://bank.example@evil.example/)", 1, "carries a user name"),
        ("[x](http://[::1)", 1, "malformed"),
        ("[x](mailto:nobody)", 1, "no mail address"),
        ("[x](#top)", 1, "points into the mail"),
        ("[x](page.html)", 1, "relative to nothing"),
        ("[x]()", 1, "has no address"),
        (f"[x](https://example.org/{'a' * 900})", 1, "longer than 900 octets"),
        ("![](bridge.png)", 1, 'image "bridge.png" has no description; write ![what it shows](bridge.png)'),
        ("![a bridge](https://example.org/bridge.png)", 1, "not a file of the issue's folder"),
        ("![a bridge](../bridge.png)", 1, "not a file of the issue's folder"),
        ("![a bridge](data:image/png;base64,AA)", 1, "not a file of the issue's folder"),
        ("One\n\n![a tower](tower.png)", 3, 'image "tower.png" is missing from the issue\'s folder'),
        (f"![{'long ' * 80}](bridge.png)", 1, "longer than 300 characters"),
        ("# Loud", 1, 'heading "# …" stands at or above the article\'s own; begin with ###'),
        ("One\n\n## Loud", 3, "begin with ###"),
        ("Loud\n====", 1, "an underlined heading"),
        ("One\n\n---\n\ntwo", 3, "a horizontal rule"),
        ("```\ncode\n```", 1, "a code block"),
        ("One\ntwo\x07", 2, "a control character, U+0007, at column 4"),
        ("One\ttwo", 1, "U+0009"),
        ("One\x85two", 1, "U+0085"),
        ("One\u2028two", 1, "U+2028"),
        ("One \u202etwo", 1, "turns the text around, U+202E"),
        ("One\n\ntwo &#8238;", 3, "turns the text around, U+202E"),
        ("[слова]{lang=qqq}", 1, 'language "qqq" of a passage is not known'),
        ("> " * 45 + "deep", 1, "nested deeper than 40 levels"),
    ],
)
def test_a_refusal_names_line_thing_and_mend(body, line, words):
    found = messages(body)
    assert any(at == line and words in message for at, message in found), found


@pytest.mark.parametrize(
    "body",
    [
        "Plain words, *emphasis*, **more**, `code <b>`, and a < b > c, 5<6.",
        "### Heading\n\n#### Deeper\n\n- a\n- b\n\n1. c\n2. d\n\n> quote",
        "| a | b |\n|---|--:|\n| 1 | 2 |",
        "[page](https://example.org/a?b=1&c=2#d) <https://example.org> [us](mailto:us@example.org?subject=a)",
        "[сайт](https://пример.бел/старонка)",
        "![a bridge](bridge.png) and [the picture](bridge.png)",
        "[нас не спрашивали, [ссылка](https://example.org)]{lang=ru}",
        "{{7*7}} {% raw %} ${x} #{y} <mj-text>",
        "Windows\r\nlines",
        "[later][1]\n\n[1]: https://example.org/",
    ],
)
def test_what_is_listed_is_allowed(body):
    assert messages(body) == []


def test_all_mistakes_are_reported_at_once_in_order():
    found = messages("<b>\n\n[x](javascript:1)\n\n![](bridge.png)\n\n# Loud")
    assert [line for line, _message in found] == [1, 3, 5, 7]


def test_titles_are_checked_for_characters_that_headers_cannot_carry():
    assert [finding.message for finding in check_words("A\x00b", "the title")] == [
        "the title holds a control character, U+0000, at column 2; delete it"
    ]
    assert check_words("Звычайны загаловак – «так»", "the title") == []


def test_images_are_named_once_each_and_only_as_files():
    assert image_names("![a](b.png) ![c](d.jpg) ![e](b.png) ![f](https://x.example/y.png)") == ("b.png", "d.jpg")


def test_words_are_read_with_the_language_they_are_marked_with():
    pieces = [
        (language, words) for _line, language, words in spoken("Так [нет *и* нет]{lang=ru} так `код`") if words.strip()
    ]
    assert pieces == [(None, "Так "), ("ru", "нет "), ("ru", "и"), ("ru", " нет"), (None, " так ")]


@pytest.mark.parametrize(
    ("parser", "use"), [(markdown._renderer, parse), (markdown._detector, lambda body: check_body(body, FILES))]
)
def test_no_thread_meets_a_parser_whose_rules_another_is_compiling(monkeypatch, parser, use):
    parser.cache_clear()
    parser()
    compiled = []
    monkeypatch.setattr(Ruler, "__compile__", lambda _ruler: compiled.append(1))
    use("Some *words*, and [a place](https://example.org).\n\n- one\n- two\n\n> said\n")
    assert compiled == []
