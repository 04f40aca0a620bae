"""Folded HTML has short lines and is the same page."""

import re

from hypothesis import given
from hypothesis import strategies as st

from service.render.folding import fold

PIECES = st.sampled_from(
    [
        "<p>",
        "</p>",
        '<a href="https://example.org/a b?c=d" style="color:#fff; margin:0">',
        "</a>",
        "<td  class='x y'\n bgcolor=red>",
        "слова і словы",
        " ",
        "\n",
        "long" * 40,
        "<!--[if mso | IE]>",
        "<![endif]-->",
        "<!--[if !mso]><!-->",
        "<!--<![endif]-->",
        '<img alt="a > b" src="cid:x">',
        "\u00a0",
        "<table>",
        "<tr>",
        "</td>",
        "</tr>",
        "</table>",
    ]
)


def collapsed(html):
    """`html` as a parser reads it: white space is one space, and between the tags of a table it is none."""
    spaced = re.sub(r"[ \n]+", " ", html)
    return re.sub(r"(<(?:table|tr)>|</(?:td|tr)>) (?=</?tr>|<td|</table>)", r"\1", spaced)


@given(st.lists(PIECES, max_size=60).map("".join))
def test_folding_only_changes_which_white_space_stands(html):
    assert collapsed(fold(html)) == collapsed(html)


def test_lines_are_short_where_spaces_allow():
    html = fold("<p>" + "слова " * 200 + "</p>")
    assert max(len(line.encode()) for line in html.split("\n")) <= 120


def test_rows_may_end_lines_where_no_space_stands():
    html = fold("<table>" + "<tr><td>слова</td></tr>" * 20 + "</table>")
    assert max(len(line.encode()) for line in html.split("\n")) <= 120
    assert ">слова<" in html


def test_values_styles_and_words_are_never_broken():
    style = "<style>\na { font-family: 'Segoe UI', sans-serif; " + "b: c; " * 60 + "}\n</style>"
    value = "color: red; " * 30
    html = fold(f'<head>{style}</head><p class="a" style="{value}">{"x" * 400}</p>')
    assert style in html
    assert f'style="{value}"' in html
    assert "x" * 400 in html


def test_no_break_spaces_are_no_places_to_break():
    assert "\n" not in fold("<p>" + "у\u00a0" * 100 + "</p>")
