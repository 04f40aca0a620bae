import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audience.csv_lines import LONGEST_LINE, Broken, CsvLines, Lines, Record
from service.domain.errors import InvalidInputError


def read(content, header="a,b"):
    octets = content if isinstance(content, bytes) else content.encode()
    return list(CsvLines(Lines(io.BytesIO(header.encode() + b"\n" + octets))))


def test_records_carry_the_number_of_their_first_line_and_empty_lines_are_passed_over():
    assert read('1,2\r\n\n  \n"3","x, ""y"""\n5,6') == [
        Record(2, ["1", "2"]),
        Record(5, ["3", 'x, "y"']),
        Record(6, ["5", "6"]),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'"canary,2', "quotes"),
        (b'"canary"x,2', "quotes"),
        (b"can\0ary,2", "NUL"),
        (b"canary\xff,2", "UTF-8"),
        (b"canary" * LONGEST_LINE + b",2", "64 KB"),
        (b'"' + b"canary" * LONGEST_LINE, "64 KB"),
    ],
)
def test_a_broken_line_costs_itself_alone_and_is_not_repeated(line, reason):
    first, broken, last = read(b"1,2\n" + line + b"\n5,6\n")
    assert (first, last) == (Record(2, ["1", "2"]), Record(4, ["5", "6"]))
    assert isinstance(broken, Broken)
    assert broken.number == 3
    assert reason in broken.reason
    assert "canary" not in broken.reason


def test_a_quoted_cell_may_hold_line_ends():
    assert read('1,"two\nlines, and\r\nthree"\n5,6\n') == [
        Record(2, ["1", "two\nlines, and\nthree"]),
        Record(5, ["5", "6"]),
    ]


def test_a_forgotten_quote_never_swallows_other_readers():
    lines = read('"ann@r.test,be\nbob@r.test,"be"\ncid@r.test,be\n"dora@r.test",be\n')
    assert lines == [
        Broken(2, "the quotes do not match"),
        Record(3, ["bob@r.test", "be"]),
        Record(4, ["cid@r.test", "be"]),
        Record(5, ["dora@r.test", "be"]),
    ]


def test_a_quote_that_never_ends_gives_the_lines_after_it_back():
    rest = "".join(f"{number},x\n" for number in range(30))
    found = read('"lost,1\n' + rest)
    assert found[0] == Broken(2, "the quotes do not match")
    assert found[1:] == [Record(3 + number, [str(number), "x"]) for number in range(30)]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_header_tells_what_separates_cells(mark):
    lines = CsvLines(Lines(io.BytesIO(f'a{mark}b\n1{mark}"x{mark}y"\n'.encode())))
    assert lines.header == ["a", "b"]
    assert list(lines) == [Record(2, ["1", f"x{mark}y"])]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"\n \n", "empty"), (b"a,b\rx,y", "CR alone"), (b"a\xff,b\n", "UTF-8"), (b'"a,b\n', "quotes")],
)
def test_a_file_whose_header_cannot_be_read_is_refused(content, reason):
    with pytest.raises(InvalidInputError, match=reason):
        CsvLines(Lines(io.BytesIO(content)))


@given(st.lists(st.binary(max_size=30), max_size=30))
def test_any_octets_are_read_to_the_end_and_each_line_at_most_once(lines):
    source = Lines(io.BytesIO(b"a,b\n" + b"\n".join(lines)))
    numbers = [found.number for found in CsvLines(source)]
    assert numbers == sorted(set(numbers))
    assert source.octets == len(b"a,b\n" + b"\n".join(lines))


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_characters='\0\r\n"', exclude_categories=["Cs"])), min_size=2, max_size=2
        )
    )
)
def test_what_a_spreadsheet_writes_is_read_as_it_was(rows):
    import csv

    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    assert [record.cells for record in read(text.getvalue())] == rows
