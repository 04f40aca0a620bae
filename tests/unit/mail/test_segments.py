"""The compiled message: what is joined reads back as what was meant, in both encodings, and its size is known ahead."""

from __future__ import annotations

import contextlib
import email
import email.policy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.errors import InvalidInputError
from service.domain.slots import MARKERS, Slot, SlotValues, check_values
from service.mail.message import Body, InlineImage, issue_rendition
from service.mail.segments import Place, Rendition, Segments, compile_message
from service.mail.transfer import base64, longest_line, quoted_printable, seven_bit
from tests.unit.mail.sending import LETTERHEAD, RENDITION, values

TOKEN = st.text("ABCXYZabcxyz0189_-", min_size=48, max_size=48)
# Whatever a renderer may write, markers included: at line starts, after dots, next to spaces and each other's line.
PIECE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=80),
    st.sampled_from([".", "..", "\n", "\n.\n", " \n", "=", "\t\n", "From ", "Прывітанне ", "й" * 70, "--", "\n\n"]),
    st.sampled_from(
        [f"\n{MARKERS[Slot.UNSUBSCRIBE]}", f"{MARKERS[Slot.PREFERENCES]}.\n", f"/{MARKERS[Slot.UNSUBSCRIBE]}\n"]
    ),
)
TEXT = st.lists(PIECE, max_size=12).map(" | ".join)
VALUES = st.builds(
    lambda unsubscribe, preferences, local: SlotValues(
        unsubscribe.encode(),
        preferences.encode(),
        f"{local}@example.net".encode(),
        b"<abc.def@example.org>",
        b"Mon, 03 Jun 2019 09:00:00 +0300",
    ),
    TOKEN,
    TOKEN,
    st.from_regex(r"[a-z0-9]{1,60}", fullmatch=True),
)


def meant(text, filled):
    """The text a reader is to see, with the line ends of mail."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"
    for slot in (Slot.UNSUBSCRIBE, Slot.PREFERENCES):
        lines = lines.replace(MARKERS[slot], filled[slot].decode())
    return lines.replace("\n", "\r\n")


def forms(rendition):
    return [rendition.seven_bit] if rendition.eight_bit is None else [rendition.seven_bit, rendition.eight_bit]


def content(part):
    return part.get_payload(decode=True).decode().removesuffix("\r\n").replace("\r\n", "\n").rstrip("\n")


@settings(max_examples=150)
@given(TEXT, TEXT, VALUES)
def test_what_is_joined_reads_back_as_what_was_meant(html, text, filled):
    rendition = issue_rendition(LETTERHEAD, Body(html, text))
    for form in forms(rendition):
        octets = form.join(filled)
        assert len(octets) == form.size(filled)
        assert b"\r" not in octets.replace(b"\r\n", b"")
        assert b"\n" not in octets.replace(b"\r\n", b"")
        assert longest_line(octets) <= 998
        assert octets.endswith(b"\r\n")
        parsed = email.message_from_bytes(octets)
        # Without HTML it is a mail of text alone.
        parts = parsed.get_payload() if html else [parsed]
        assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"][: len(parts)]
        for part, source in zip(parts, (text, html), strict=False):
            assert content(part) == meant(source, filled).replace("\r\n", "\n").rstrip("\n")
        assert parsed["To"] == filled.recipient.decode()
        assert parsed["List-Unsubscribe"] == f"<https://weekly.example.org/u/{filled.unsubscribe.decode()}>"
    assert rendition.seven_bit.join(filled).isascii()


@settings(max_examples=150)
@given(TEXT, VALUES)
def test_stuffing_the_segments_is_stuffing_the_letter(text, filled):
    rendition = issue_rendition(LETTERHEAD, Body(text, text))
    for form in forms(rendition):
        stuffed = form.stuffed().join(filled)
        assert stuffed == form.join(filled).replace(b"\r\n.", b"\r\n..")
        assert b"\r\n.\r\n" not in stuffed


@settings(max_examples=50)
@given(TEXT, VALUES)
def test_a_rendition_is_stored_and_read_back(text, filled):
    rendition = issue_rendition(LETTERHEAD, Body(text, text))
    stored = rendition.to_bytes()
    again = Rendition.from_bytes(stored, digest=rendition.digest)
    assert again == rendition
    assert again.digest == rendition.digest
    assert again.to_bytes() == stored
    assert again.seven_bit_stuffed.join(filled) == rendition.seven_bit_stuffed.join(filled)


def test_the_same_edition_freezes_to_the_same_octets():
    body = Body("<p>x</p>", "x", (InlineImage("a@b", "png", b"\x89PNG"),))
    assert issue_rendition(LETTERHEAD, body).digest == issue_rendition(LETTERHEAD, body).digest
    assert issue_rendition(LETTERHEAD, Body("<p>y</p>", "x")).digest != issue_rendition(LETTERHEAD, body).digest


@settings(max_examples=60)
@given(st.data())
def test_damaged_storage_is_noticed(data):
    stored = RENDITION.to_bytes()
    at = data.draw(st.integers(0, len(stored) - 1))
    damaged = stored[:at] + bytes([stored[at] ^ data.draw(st.integers(1, 255))]) + stored[at + 1 :]
    with pytest.raises(InvalidInputError):
        Rendition.from_bytes(damaged, digest=RENDITION.digest)
    with contextlib.suppress(InvalidInputError):
        Rendition.from_bytes(damaged)


@pytest.mark.parametrize("cut", [0, 3, 4, 8, 50, -1])
def test_storage_cut_short_is_noticed(cut):
    with pytest.raises(InvalidInputError):
        Rendition.from_bytes(RENDITION.to_bytes()[:cut])
    with pytest.raises(InvalidInputError, match="too many"):
        Rendition.from_bytes(RENDITION.to_bytes() + b"x")


def test_a_line_too_long_for_8bit_leaves_only_the_other_form():
    rendition = issue_rendition(LETTERHEAD, Body("й" * 500, "x"))
    assert rendition.eight_bit is None
    assert rendition.eight_bit_stuffed is None
    assert issue_rendition(LETTERHEAD, Body("й" * 499, "x")).eight_bit is not None
    assert Rendition.from_bytes(rendition.to_bytes()) == rendition


@pytest.mark.parametrize(
    "octets", [b"A: b\r\n\r\nx\ny\r\n", b"A: b\r\n\r\nx\ry\r\n", b"A: b\r\n\r\nx\0\r\n", b"A: b\r\n\r\n" + b"x" * 999]
)
def test_a_template_that_would_not_survive_the_wire(octets):
    with pytest.raises(InvalidInputError):
        compile_message(octets)


def test_header_markers_are_cut_only_in_the_header():
    date = MARKERS[Slot.DATE].encode()
    segments = compile_message(b"Date: " + date + b"\r\n\r\nDate: " + date + b"\r\n")
    assert [place.slot for place in segments.places] == [Slot.DATE]
    assert segments.join(values(1, "r@example.net")).count(date) == 1


def test_segments_that_do_not_fit_together():
    with pytest.raises(ValueError, match="need 2 statics"):
        Segments((b"x",), (Place(Slot.DATE),))


# Transfer encodings


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("after", range(6))
def test_a_marker_in_base64_has_a_line_of_its_own(before, after):
    marker = MARKERS[Slot.UNSUBSCRIBE].encode()
    encoded = base64(b"x" * before + marker + b"y" * after + b"\r\n")
    (needle,) = encoded.needles
    assert needle.text in encoded.body.split(b"\r\n")
    assert len(needle.prefix) <= 2
    assert len(needle.suffix) <= 2


def test_markers_too_close_for_base64_are_refused():
    marker = MARKERS[Slot.UNSUBSCRIBE].encode()
    with pytest.raises(InvalidInputError, match="closer"):
        base64(b"x" + marker + marker)


def test_mostly_cyrillic_goes_as_base64_and_latin_as_quoted_printable():
    assert seven_bit("Прывітанне, свет!\r\n".encode() * 20).name == "base64"
    assert seven_bit("A naïve reader in a café, and an “author” at home.\r\n".encode() * 20).name == "quoted-printable"
    assert seven_bit(b"plain\r\n").name == "7bit"
    assert seven_bit(b"x" * 999 + b"\r\n").name == "quoted-printable"


@given(st.binary(max_size=400))
def test_quoted_printable_decodes_to_what_went_in(octets):
    octets = octets.replace(b"\r", b"").replace(b"\n", b"\r\n")
    body = quoted_printable(octets).body
    import quopri

    assert quopri.decodestring(body) == octets
    assert longest_line(body) <= 76
    assert not re.search(rb"[ \t](\r\n|$)", body)


# Values


def test_values_that_fit():
    check_values(values(1, "r@example.net"))
    check_values(values(1, "ян@example.net"))


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("bad", [b"", b"x\r\nBcc: y", b"\0", b"x\n" * 24])
def test_values_that_do_not_fit(at, bad):
    filled = list(values(1, "secret@example.net"))
    filled[at] = bad
    with pytest.raises(InvalidInputError) as caught:
        check_values(SlotValues(*filled))
    assert "secret" not in str(caught.value)
