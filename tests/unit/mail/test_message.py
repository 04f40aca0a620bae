"""The headers and the structure of issues and notices, as a stranger's parser reads them."""

from __future__ import annotations

import dataclasses
import email
import email.policy
from email.header import decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.errors import InvalidInputError
from service.domain.slots import MARKERS, Slot
from service.mail.message import Body, InlineImage, Letterhead, Mailbox, issue_rendition, notice_rendition
from service.mail.words import mailbox_words, text_words
from tests.unit.mail.sending import LETTERHEAD, LIST_HEADERS, values

BODY = Body("<p>Прывітанне</p>", "Прывітанне")
NOTICE = Letterhead(Mailbox("Тыдзень", "news@example.org"), "Пацвердзіце падпіску", "be")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3


def octets(letterhead=LETTERHEAD, body=BODY, *, eight_bit=True):
    rendition = issue_rendition(letterhead, body)
    return (rendition.eight_bit if eight_bit else rendition.seven_bit).join(values(7, "r@example.net"))


def parsed(*args, **kwargs):
    return email.message_from_bytes(octets(*args, **kwargs), policy=email.policy.SMTP)


def test_the_headers_of_an_issue():
    message = parsed()
    assert dict(message.items()) == {
        "From": "Тыдзень <news@example.org>",
        "To": "r@example.net",
        "Subject": "Тыдзень",
        "Date": "Mon, 03 Jun 2019 09:00:00 +0300",
        "Message-ID": "<000007@example.org>",
        "Feedback-ID": "i:w:s",
        "Content-Language": "be",
        "List-Id": "The Weekly <weekly.example.org>",
        "List-Unsubscribe": f"<https://weekly.example.org/u/{'000007' * 8}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Help": "<https://weekly.example.org/help>",
        "List-Owner": "<mailto:owner@example.org>",
        "List-Archive": "<https://weekly.example.org/archive>",
        "MIME-Version": "1.0",
        "Content-Type": message["Content-Type"],
        "Content-Transfer-Encoding": "8bit",
    }


def test_reply_to_and_the_mailto_only_where_given():
    head = dataclasses.replace(
        LETTERHEAD,
        reply_to=Mailbox("", "editors@example.org"),
        list_headers=dataclasses.replace(
            LIST_HEADERS, unsubscribe_mailto=f"u+{MARKERS[Slot.UNSUBSCRIBE]}@in.example.org"
        ),
    )
    message = parsed(head)
    assert message["Reply-To"] == "editors@example.org"
    assert message["List-Unsubscribe"].endswith(f", <mailto:u+{'000007' * 8}@in.example.org>")


def test_a_long_one_click_url_stays_as_it_is():
    url = f"https://weekly.example.org/{'long/' * 60}{MARKERS[Slot.UNSUBSCRIBE]}"
    head = dataclasses.replace(LETTERHEAD, list_headers=dataclasses.replace(LIST_HEADERS, unsubscribe_url=url))
    header = octets(head).split(b"\r\n\r\n")[0]
    assert url.replace(MARKERS[Slot.UNSUBSCRIBE], "000007" * 8).encode() in header
    for line in header.split(b"\r\n"):
        if line.lower().startswith((b"list-", b"message-id", b"feedback-id")):
            assert b"=?" not in line


def test_a_notice_says_that_no_person_wrote_it_and_is_no_list_mail():
    message = email.message_from_bytes(notice_rendition(NOTICE, BODY).seven_bit.join(values(1, "r@example.net")))
    assert message["Auto-Submitted"] == "auto-generated"
    assert not [name for name in message if name.lower().startswith(("list-", "feedback", "x-", "precedence"))]


def test_issues_need_list_headers_and_notices_have_none():
    with pytest.raises(InvalidInputError, match="one click"):
        issue_rendition(NOTICE, BODY)
    with pytest.raises(InvalidInputError, match="notice"):
        notice_rendition(LETTERHEAD, BODY)


def test_text_first_html_last_and_images_beside_the_html():
    body = Body('<img src="cid:a@b">', "x", (InlineImage("a@b", "png", PNG), InlineImage("c@d", "jpeg", PNG * 40)))
    for eight_bit in (True, False):
        message = parsed(body=body, eight_bit=eight_bit)
        kinds = [part.get_content_type() for part in message.walk()]
        assert kinds == [
            "multipart/alternative",
            "text/plain",
            "multipart/related",
            "text/html",
            "image/png",
            "image/jpeg",
        ]
        images = [part for part in message.walk() if part.get_content_maintype() == "image"]
        assert [part.get_payload(decode=True) for part in images] == [PNG, PNG * 40]
        assert [part["Content-ID"] for part in images] == ["<a@b>", "<c@d>"]
        assert {part.get_content_disposition() for part in images} == {"inline"}
        assert all(len(line) <= 78 for line in octets(body=body).split(b"\r\n\r\n")[-2].split(b"\r\n"))


@pytest.mark.parametrize(
    "character",
    ["\r", "\n", "\0", "\x1b", "\x7f", "\x85", "\x9f", "\u2028", "\u2029", "\u202e", "\u2066", "\t", "\ud800"],
)
def test_header_text_without_controls(character):
    for head in (
        dataclasses.replace(LETTERHEAD, subject=f"a{character}b"),
        dataclasses.replace(LETTERHEAD, sender=Mailbox(f"a{character}b", "news@example.org")),
        dataclasses.replace(LETTERHEAD, list_headers=dataclasses.replace(LIST_HEADERS, name=f"a{character}b")),
    ):
        with pytest.raises(InvalidInputError):
            issue_rendition(head, BODY)


@pytest.mark.parametrize(
    "text", ["=?utf-8?q?a=0D=0ABcc:_v@x?=", "x =?UTF-8?B?QQ==?= y", "=?iso-8859-1*en?Q?x?=", "=?utf-8?q??="]
)
def test_encoded_words_are_refused_not_read(text):
    with pytest.raises(InvalidInputError, match="encoded word"):
        issue_rendition(dataclasses.replace(LETTERHEAD, subject=text), BODY)


@pytest.mark.parametrize("text", ["=? what ?=", "50 % = half?", "a =?b?= c"])
def test_what_only_looks_like_an_encoded_word_is_text(text):
    assert parsed(dataclasses.replace(LETTERHEAD, subject=text))["Subject"] == text


@pytest.mark.parametrize(
    "change",
    [
        {"sender": Mailbox("", "news@example.org\r\nBcc: x@y.example")},
        {"sender": Mailbox("", "nobody")},
        {"sender": Mailbox("", "ян@example.org")},
        {"content_language": "be\r\nX: y"},
        {"feedback_id": "a b"},
        {"feedback_id": "=?utf-8?q?a?=:b"},
        {"list_headers": dataclasses.replace(LIST_HEADERS, unsubscribe_url="https://x/> <y")},
        {"list_headers": dataclasses.replace(LIST_HEADERS, unsubscribe_url="javascript:x")},
        {"list_headers": dataclasses.replace(LIST_HEADERS, help_url="https://пошта.example/")},
        {"list_headers": dataclasses.replace(LIST_HEADERS, id="no domain")},
        {"list_headers": dataclasses.replace(LIST_HEADERS, owner="x")},
        {"list_headers": dataclasses.replace(LIST_HEADERS, name='a"b')},
        {"subject": "x" * 2000},
    ],
)
def test_headers_that_cannot_be_mailed(change):
    with pytest.raises(InvalidInputError):
        issue_rendition(dataclasses.replace(LETTERHEAD, **change), BODY)


@pytest.mark.parametrize(
    "body",
    [
        Body("a\0b", "x"),
        Body("x", "a\0b"),
        Body("\ud800", "x"),
        Body("x", "x", (InlineImage("a", "png", b""),)),
        Body("x", "x", (InlineImage("a@b", "p/n\r\n", b""),)),
    ],
)
def test_bodies_that_cannot_be_mailed(body):
    with pytest.raises(InvalidInputError):
        issue_rendition(LETTERHEAD, body)


def test_a_list_name_beyond_ascii_is_left_out_rather_than_encoded():
    head = dataclasses.replace(LETTERHEAD, list_headers=dataclasses.replace(LIST_HEADERS, name="Тыдзень"))
    assert parsed(head)["List-Id"] == "<weekly.example.org>"
    head = dataclasses.replace(LETTERHEAD, list_headers=dataclasses.replace(LIST_HEADERS, name="A, B & C"))
    assert parsed(head)["List-Id"] == '"A, B & C" <weekly.example.org>'


HEADER_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=200).filter(
    lambda text: text == text.strip() and "=?" not in text
)


@settings(max_examples=200)
@given(HEADER_TEXT)
def test_subjects_and_names_read_back_and_fold(text):
    for value in (text_words("Subject", text), mailbox_words("From", text, "a@b.example").rpartition(" ")[0]):
        unfolded = value.replace("\r\n ", " ")
        if text.isascii():
            assert unfolded.strip('"').replace("\\", "") == text.replace("\\", "") or '"' in text
        else:
            assert str(make_header(decode_header(value.replace("\r\n", "")))) == text
            assert all(len(line) <= 76 for line in f"Subject: {value}".split("\r\n"))
            assert all(len(word) <= 75 for word in value.split())


@settings(max_examples=100)
@given(HEADER_TEXT)
def test_whatever_is_accepted_reads_back_as_written(text):
    head = dataclasses.replace(LETTERHEAD, subject=text, sender=Mailbox(text, "news@example.org"))
    message = email.message_from_bytes(octets(head))
    assert str(make_header(decode_header(message["Subject"].replace("\r\n", "")))) == text
    assert sorted(message.keys()) == sorted(parsed().keys())
