import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.editorial.front_matter import canonical_body, join, split

CHARACTERS = st.characters(exclude_categories=["Cs"])
VALUES = st.one_of(
    st.text(CHARACTERS),
    st.sampled_from(
        ["---", "a: b", '"a" and "b"', "'a' and 'b'", "'", '"', "''", " a ", "# a", "|", "a # b", "\\", "null"]
    ),
)


def file_text(text):
    """What the file says once its line ends are read as line feeds."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(st.dictionaries(st.sampled_from(["title", "lead", "status", "x-1"]), VALUES), st.text(CHARACTERS))
def test_what_is_joined_is_split_again(values, body):
    found = split(file_text(join(values, canonical_body(body))))
    assert (found.values, found.body) == (values, canonical_body(body))
    assert found.problems == ()


@given(st.text(CHARACTERS))
def test_a_canonical_body_stays_as_it_is(body):
    assert canonical_body(canonical_body(body)) == canonical_body(body)


@given(st.text(CHARACTERS))
def test_any_text_is_split_without_an_error(text):
    split(text)
    split(f"---\n{text}\n---\n{text}")


def test_lines_are_those_of_the_file():
    found = split("\n---\n# a comment\ntitle: A: b\n\nlead: c\n---\n\n\nBody\nmore\n")
    assert found.values == {"title": "A: b", "lead": "c"}
    assert found.lines == {"title": 4, "lead": 6}
    assert (found.body_line, found.body) == (10, "Body\nmore")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("plain: with colon", "plain: with colon"),
        ('"quoted \\"twice\\": yes"', 'quoted "twice": yes'),
        ("'quoted ''once'': yes'", "quoted 'once': yes"),
        ('"Big" and "small"', '"Big" and "small"'),
        ("'Big' and 'small'", "'Big' and 'small'"),
        ('The "eight"', 'The "eight"'),
        ("'Tis the season", "'Tis the season"),
        ('"', '"'),
        ("", ""),
        ("\ttabs around\t", "tabs around"),
        ('"caf\\u00e9"', "café"),
    ],
)
def test_values_are_read_as_people_write_them(written, meant):
    assert split(f"---\ntitle: {written}\n---\n").values == {"title": meant}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "no front matter"),
        ("# Title\n\nBody", 1, "no front matter"),
        ("---\ntitle: a\n\nBody", 1, "without its second ---"),
        ("---\ntitle: a\ntitle: b\n---\n", 3, "twice"),
        ("---\ntitle: a\n  and more\n---\n", 3, "stays on one line"),
        ("---\ntitle:a\n---\n", 2, "key: value"),
        ("---\nlead: |\n  a\n---\n", 2, "several lines"),
    ],
)
def test_mistakes_are_told_with_their_line(text, line, message):
    assert any(number == line and message in told for number, told in split(text).problems)
