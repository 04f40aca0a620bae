"""A text as plain text: readable, 72 wide, links on lines of their own."""

from service.render.markdown_text import body_text, wrapped

FILES = {"map.png": "https://weekly.example.org/en/issues/2019-W22/map.png"}


def text(body):
    return body_text(body, FILES, picture="Picture")


def test_links_stand_below_the_block_that_names_them():
    assert text("See [one](https://example.org/1) and [two](map.png).\n\nThen [three](https://example.org/3).") == (
        "See one [1] and two [2].\n\n[1] https://example.org/1\n"
        "[2] https://weekly.example.org/en/issues/2019-W22/map.png\n\nThen three [3].\n\n[3] https://example.org/3"
    )


def test_a_refused_link_keeps_its_words_only():
    assert text("[x](javascript:alert(1)) y") == "x y"


def test_long_paragraphs_are_wrapped_and_long_words_are_not_cut():
    made = text("слова " * 40 + "x" * 100)
    assert all(len(line) <= 72 or line == "x" * 100 for line in made.split("\n"))


def test_headings_quotes_and_lists_can_be_told_apart():
    assert text("### Head\n\n> one\n>\n> two\n\n- a\n- b\n  1. c\n\n3. d\n4. e") == (
        "Head\n----\n\n> one\n>\n> two\n\n- a\n- b\n  1. c\n\n3. d\n4. e"
    )


def test_loose_lists_keep_their_air():
    assert text("- a\n\n- b") == "- a\n\n- b"


def test_narrow_tables_stand_in_columns():
    assert text("| Year | Members |\n|---|--:|\n| 2018 | 24 |") == "Year  Members\n----  -------\n2018       24"


def test_wide_tables_become_lists():
    body = f"| Name | Words |\n|---|---|\n| a | {'long ' * 20}|\n| b | short |"
    assert text(body).startswith("Name: a\nWords: long long")
    assert text(body).endswith("\n\nName: b\nWords: short")
    assert max(map(len, text(body).split("\n"))) <= 72


def test_pictures_are_told_in_words():
    assert text("![a bridge](map.png)") == "[Picture: a bridge]"


def test_hard_breaks_break():
    assert text("one\\\ntwo\nthree") == "one\ntwo three"


def test_what_looks_like_code_or_templates_comes_out_as_written():
    assert text("{{7*7}} {% x %} <mj-text> &lt;b&gt; `a*b`") == "{{7*7}} {% x %} <mj-text> <b> a*b"


def test_hanging_indents_hold_in_wrapped_lines():
    assert wrapped("word " * 20, 30, "1. ", "   ")[1].startswith("   word")
