"""Replies out of any octets in any slices."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.mail.replyreader import ReplyReader

STREAM = b"220 hello\r\n250-a\r\n250-b\r\n250 c\r\n354 go\n250\r\n550-x\r\n550 5.1.1 y\r\n421 bye\r\n"
EXPECTED = [220, 250, 354, 250, 550, 421]


def codes(reader, *chunks):
    return [code for chunk in chunks for code, _ in reader.feed(chunk)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_slices_make_no_difference(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[a:b] for a, b in pairwise(edges)]
    reader = ReplyReader()
    assert codes(reader, *chunks) == EXPECTED
    assert not reader.mid_reply


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_any_octets_are_survived(chunks):
    reader = ReplyReader()
    for code, lines in (reply for chunk in chunks for reply in reader.feed(chunk)):
        assert 0 <= code <= 999
        assert lines
    assert reader.mid_reply in {True, False}


def test_what_is_unfinished_is_known():
    reader = ReplyReader()
    assert codes(reader, b"250-") == []
    assert reader.mid_reply
    assert codes(reader, b"x\r\n") == []
    assert reader.mid_reply
    assert codes(reader, b"250 y\r\n") == [250]
    assert not reader.mid_reply


def test_of_a_long_line_the_beginning_is_kept():
    reader = ReplyReader()
    chunks = [b"250 " + b"x" * 700, *[b"y" * 70_000] * 10, b"z\r\n250 next\r\n"]
    replies = [reply for chunk in chunks for reply in reader.feed(chunk)]
    assert [code for code, _ in replies] == [250, 250]
    assert replies[0][1][0].startswith(b"250 xxx")
    assert len(replies[0][1][0]) <= 1024


def test_of_many_lines_the_first_are_kept():
    ((code, lines),) = ReplyReader().feed(b"250-x\r\n" * 5000 + b"250 y\r\n")
    assert code == 250
    assert len(lines) <= 33


def test_an_endless_reply_is_noticed_in_bounded_memory():
    for chunk in (b"250-x\r\n" * 1000, b"x" * 7000):
        reader = ReplyReader()
        fed = 0
        while not reader.overflown:
            assert codes(reader, chunk) == []
            fed += len(chunk)
            assert fed < 6_000_000
        assert len(reader._rest) <= 1024
        assert len(reader._lines) <= 32


def test_lines_that_disagree_have_no_code():
    assert codes(ReplyReader(), b"250-ok\r\n550 no\r\n") == [0]
