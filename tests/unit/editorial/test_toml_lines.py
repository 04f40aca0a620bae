import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.editorial.toml_lines import TomlLines

TEXT = '''\
# a comment with = and [brackets]
top = 1
a.b = "x # no comment"
"quoted.key" = [
  "one",  # a comment, with "quotes"
  ["nested", { in = 1, side = """two
lines""" }],
]
literal = \'\'\'one
[not.a.table]
key = 1\'\'\'
ends = """quote""""
[table]
x = 2019-05-27T00:00:00Z
[table.sub]
y = 1
[[list]]
z = 1
[list.sub]
w = 1
[[list]]
z = 2
[[list.deep]]
v = 1
[list.sub]
w = { p.q = 1 }
'''

LINES = {
    ("top",): 2,
    ("a",): 3,
    ("a", "b"): 3,
    ("quoted.key",): 4,
    ("quoted.key", 0): 5,
    ("quoted.key", 1): 6,
    ("quoted.key", 1, 1, "in"): 6,
    ("literal",): 9,
    ("ends",): 12,
    ("table",): 13,
    ("table", "x"): 14,
    ("table", "sub", "y"): 16,
    ("list",): 17,
    ("list", 0): 17,
    ("list", 0, "z"): 18,
    ("list", 0, "sub", "w"): 20,
    ("list", 1): 21,
    ("list", 1, "z"): 22,
    ("list", 1, "deep", 0, "v"): 24,
    ("list", 1, "sub", "w", "p", "q"): 26,
}


@pytest.mark.parametrize(("path", "line"), LINES.items())
def test_each_key_is_found(path, line):
    tomllib.loads(TEXT)
    assert TomlLines(TEXT).line(path) == line


def test_what_is_missing_is_said_at_the_nearest_place():
    assert TomlLines(TEXT).line(("list", 1, "nothing", "here")) == 21
    assert TomlLines("").line(("nothing",)) == 1


@given(st.dictionaries(st.text(min_size=1), st.one_of(st.integers(), st.text(), st.booleans()), max_size=8))
def test_whatever_tomllib_reads_is_scanned_to_its_end(values):
    import json

    def written(value):
        return json.dumps(value).replace("\x7f", "\\u007f")

    try:
        text = "".join(f"{written(key)} = {written(value)}\n" for key, value in values.items()) + "[after]\nlast = 1\n"
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert TomlLines(text).line(("after", "last")) == len(values) + 2
