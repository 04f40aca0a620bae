"""Which tokens the header fields of a mail name, however they are written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mail.addressees import MOST_TOKENS, tokens
from service.mail.imap_session import HEADER_OCTETS
from service.mail.leave_address import LeaveAddress

LEAVE = LeaveAddress("leave@weekly.example.org")
ONE, TWO = "A-b_" * 12, "z9Zq" * 12


def ours(token: str) -> str:
    return f"leave+{token}@weekly.example.org"


@pytest.mark.parametrize(
    "header",
    [
        f"To: {ours(ONE)}",
        f"to:{ours(ONE)}\r\n",
        f"TO : <{ours(ONE)}>\r\n\r\n",
        f'Cc: "leave, me" <{ours(ONE)}>, other@elsewhere.test',
        f"To: other@elsewhere.test,\r\n\t{ours(ONE)} (unsubscribe)\r\n",
        f"To: other@elsewhere.test,\n {ours(ONE)}\n",
        f"Delivered-To: LEAVE+{ONE}@Weekly.Example.ORG",
        f"X-Original-To: {ours(ONE)}",
        f"Envelope-To: {ours(ONE)};",
        f"To: group: {ours(ONE)};",
        f"To: 'лист' <{ours(ONE)}>",
        f"To: {ours(ONE)}\r\nTo: {ours(ONE)}",
    ],
)  # fmt: skip
def test_an_address_with_a_token_is_found(header):
    assert tokens(header.encode(), LEAVE) == (ONE,)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "To: leave@weekly.example.org",
        f"From: {ours(ONE)}\r\nReply-To: {ours(ONE)}\r\nSubject: {ours(ONE)}\r\n {ours(ONE)}",
        f" {ours(ONE)}",
        f"To: leave+{ONE}@elsewhere.test",
        f"To: leave+{ONE}@weekly.example.org.elsewhere.test",
        f"To: x.leave+{ONE}@weekly.example.org",
        f"To: leave{ONE}@weekly.example.org",
        f"To: leave+{ONE[1:]}@weekly.example.org",
        f"To: leave+{ONE}A@weekly.example.org",
        f"To: leave+{ONE[1:]}=@weekly.example.org",
        "To: leave+help@weekly.example.org",
        f"To: =?utf-8?q?leave+{ONE}=40weekly.example.org?=",
        f"To: leave+{ONE}@weekly.example",
    ],
)
def test_nothing_else_is_a_token(header):
    assert tokens(header.encode(), LEAVE) == ()


def test_what_a_mail_server_wrote_comes_first_and_the_number_is_bounded():
    many = [f"{number:048}" for number in range(1000)]
    header = f"To: {', '.join(map(ours, many))}\r\nCc: {ours(TWO)}\r\nDelivered-To: {ours(ONE)}\r\n"
    assert tokens(header.encode(), LEAVE) == (ONE, *many[: MOST_TOKENS - 1])


def test_a_token_that_was_mangled_on_the_way_hides_no_other():
    header = f"Delivered-To: {ours(ONE).lower()}\r\nTo: {ours(ONE)}\r\n"
    assert tokens(header.encode(), LEAVE) == (ONE.lower(), ONE)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_no_octets_do_any_harm(octets, at):
    header = f"To: {ours(ONE)}\r\n".encode()
    assert tokens(octets + b"\r\n" + header, LEAVE)[-1:] == (ONE,)
    assert set(tokens(header[:at] + octets + header[at:], LEAVE)) <= {ONE}


@pytest.mark.parametrize("octets", [b"a", b"@", b"(", b"a@", b"a@,", b"\r\n ", b"\r\nTo:", b'\\"', b"leave+@", b" "])
def test_as_many_octets_as_are_fetched_take_no_time(octets):
    header = b"To: " + octets * (HEADER_OCTETS // len(octets))
    began = time.process_time()
    assert tokens(header, LEAVE) == ()
    assert time.process_time() - began < 0.5
