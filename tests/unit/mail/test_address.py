"""Addresses as they stand in an envelope."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvalidInputError
from service.mail.address import envelope_address, envelope_domain


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("r@example.net", "r@example.net"),
        ("R.Tag+x@Example.NET", "R.Tag+x@Example.NET"),
        ("r@localhost", "r@localhost"),
        ("r@[127.0.0.1]", "r@[127.0.0.1]"),
        ('"a b"@example.net', '"a b"@example.net'),
        ('"a@b"@example.net', '"a@b"@example.net'),
        ("r@пошта.бел", "r@xn--80a1acn3a.xn--90ais"),
        ("r@BÜCHER.example", "r@xn--bcher-kva.example"),
        ("ян@example.net", "ян@example.net"),
        ("o'neil!#$%&*/=?^_`{|}~-@example.net", "o'neil!#$%&*/=?^_`{|}~-@example.net"),
    ],
)
def test_good_ones(address, expected):
    assert envelope_address(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "", "@", "a@", "@b.example", "a b@c.example", "a@b c.example", "a@b..example", "a..b@c.example", ".a@c.example",
        "a.@c.example", "a@-b.example", "a@b-.example", "a@b.example.", "a@b.example\n", "a\n@b.example", "a@b\r\n.example",
        "a\0b@c.example", "<a@b.example>", "a@b.example>", "a,b@c.example", "a;b@c.example", '"a"b@c.example', '"a\n"@c.example',
        "a" * 65 + "@b.example", "a@" + "b" * 64 + ".example", "a@" + "b." * 130 + "example", "a\x85@b.example",
        "a\u2028@b.example", "a\u202eb@c.example", "\u2066a@b.example", "\ud800@b.example", "a@пошта\u200d.example", "a@\ud800.example", "a@☃\u0301.invalid-\u0640",
    ],
)  # fmt: skip
def test_bad_ones_are_refused_without_repeating_them(address):
    with pytest.raises(InvalidInputError) as caught:
        envelope_address(address)
    assert len(address) < 3 or address not in str(caught.value)


@given(st.text(max_size=80))
def test_nothing_that_passes_can_end_a_command(address):
    try:
        envelope = envelope_address(address)
    except InvalidInputError:
        return
    assert not set(envelope) & set("\r\n\0<>") or '"' in envelope
    assert "\r" not in envelope
    assert "\n" not in envelope
    assert envelope.rpartition("@")[2].isascii()


def test_domains():
    assert envelope_domain("Пошта.example") == "xn--80a1acn3a.example"
    with pytest.raises(InvalidInputError):
        envelope_domain("a b")
