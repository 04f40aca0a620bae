"""Every class of replies, and the replies that real servers send in its gaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.replies import Phase, Reply, ReplyClass, classify, parse_line, parse_reply

SESSION = [Phase.CONNECT, Phase.GREETING, Phase.TLS, Phase.EHLO, Phase.AUTH]
TRANSACTION = [Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.DOT]
NAMED = [Phase.RCPT, Phase.DATA, Phase.BODY, Phase.DOT]


def said(line: str, phase: Phase) -> ReplyClass:
    return classify(parse_reply([line.encode()]), phase)


@pytest.mark.parametrize("phase", NAMED)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("550 5.1.1 <r@example.net>: no such user", ReplyClass.HARD),
        ("550 5.1.2 bad destination system", ReplyClass.HARD),
        ("501 5.1.3 bad address syntax", ReplyClass.HARD),
        ("551 5.1.6 moved", ReplyClass.HARD),
        ("556 5.1.10 null MX", ReplyClass.HARD),
        ("550 User unknown", ReplyClass.HARD),
        ("550 user unknown", ReplyClass.HARD),
        ("550 No such user here", ReplyClass.HARD),
        ("550 Requested action not taken: mailbox not found", ReplyClass.HARD),
        ("550 Recipient address rejected: User unknown in local recipient table", ReplyClass.HARD),
        ("550 5.0.0 unknown recipient", ReplyClass.HARD),
        ("554 delivery error: this user doesn't have an account", ReplyClass.HARD),
        ("556 Domain does not accept mail", ReplyClass.HARD),
        ("552 5.2.2 mailbox full", ReplyClass.SOFT),
        ("554 5.2.1 disabled", ReplyClass.SOFT),
        ("552 mailbox full", ReplyClass.SOFT),
        ("552 over quota", ReplyClass.SOFT),
        ("552 exceeded storage allocation", ReplyClass.SOFT),
        ("452 4.2.2 mailbox full", ReplyClass.SOFT),
        ("450 greylisted", ReplyClass.TRANSIENT),
        ("451 4.7.1 greylisted, try again later", ReplyClass.TRANSIENT),
        ("450 4.7.1 spam? come back later", ReplyClass.TRANSIENT),
        ("451 local error", ReplyClass.TRANSIENT),
        ("452 insufficient system storage", ReplyClass.TRANSIENT),
        ("450 4.2.1 busy", ReplyClass.TRANSIENT),
        ("450 5.1.1 of two minds", ReplyClass.TRANSIENT),
        ("554 5.7.1 blocked", ReplyClass.POLICY),
        ("554 5.7.1 message looks like spam", ReplyClass.POLICY),
        ("550 5.7.26 unauthenticated", ReplyClass.POLICY),
        ("550 5.7.515 access denied", ReplyClass.POLICY),
        ("550 5.7.1 user unknown", ReplyClass.POLICY),
        ("554 blocked using zen.spamhaus.example", ReplyClass.POLICY),
        ("550 Your message is spam", ReplyClass.POLICY),
        ("550 blocked by our list: user unknown", ReplyClass.POLICY),
        ("553 sorry, that domain isn't in my list of allowed rcpthosts; relaying denied", ReplyClass.POLICY),
        ("554 transaction failed", ReplyClass.POLICY),
        ("550 5.1.8 bad sender", ReplyClass.POLICY),
        ("552 5.3.4 too big", ReplyClass.CONTENT),
        ("552 message size exceeds fixed limit", ReplyClass.CONTENT),
        ("523 too long", ReplyClass.CONTENT),
        ("550 5.6.7 non-ASCII addresses not permitted", ReplyClass.CONTENT),
        ("554 5.6.0 bad MIME", ReplyClass.CONTENT),
        ("503 5.5.1 bad sequence", ReplyClass.PROTOCOL),
        ("500 what?", ReplyClass.PROTOCOL),
        ("503 need RCPT", ReplyClass.PROTOCOL),
        ("530 5.7.0 authentication required", ReplyClass.RELAY),
        ("535 authentication failed", ReplyClass.RELAY),
        ("525 5.7.13 account disabled", ReplyClass.RELAY),
        ("554 5.7.8 credentials invalid", ReplyClass.RELAY),
        ("550 4.1.1 whose class is not its code's", ReplyClass.SOFT),
    ],
)
def test_the_table(line: str, phase: Phase, expected: ReplyClass) -> None:
    if line.startswith("550 4.1.1") and phase is not Phase.RCPT:
        expected = ReplyClass.POLICY
    assert said(line, phase) is expected


@pytest.mark.parametrize(
    "line",
    [
        "553 5.7.1 <news@example.org>: Sender address rejected: not logged in",
        "550 SMTP authentication is required",
        "503 5.5.1 login required",
    ],
)
@pytest.mark.parametrize("phase", TRANSACTION)
def test_a_login_that_is_wanted_in_words_is_the_relays_trouble_before_the_body(line: str, phase: Phase) -> None:
    assert (said(line, phase) is ReplyClass.RELAY) == (phase in {Phase.MAIL, Phase.RCPT})


def test_an_authentication_of_the_letter_is_no_login() -> None:
    for line in ("550 5.7.26 Unauthenticated email is not accepted", "554 5.7.9 not accepted for policy reasons"):
        assert said(line, Phase.RCPT) is ReplyClass.POLICY


@pytest.mark.parametrize("line", ["550 no", "551 no", "553 no", "552 no"])
def test_a_bare_refusal_of_a_recipient_is_only_scored(line: str) -> None:
    assert said(line, Phase.RCPT) is ReplyClass.SOFT


@pytest.mark.parametrize("line", ["550 user unknown", "550 5.1.1 x", "552 5.2.2 full", "550 no"])
def test_what_is_said_before_a_reader_is_named_is_never_held_against_one(line: str) -> None:
    assert said(line, Phase.MAIL) is ReplyClass.POLICY


def test_552_to_mail_is_the_answer_to_the_size() -> None:
    assert said("552 no", Phase.MAIL) is ReplyClass.CONTENT


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.BODY])
def test_421_is_transient_everywhere(phase: Phase) -> None:
    assert said("421 4.3.2 shutting down", phase) is ReplyClass.TRANSIENT


@pytest.mark.parametrize("line", ["535 5.7.8 bad password", "534 too weak", "454 4.7.0 try later", "500 what?"])
def test_a_refused_login_is_the_relays_trouble(line: str) -> None:
    assert said(line, Phase.AUTH) is ReplyClass.RELAY


@pytest.mark.parametrize(("line", "expected"), [("554 go away", "RELAY"), ("450 busy", "TRANSIENT")])
def test_a_refused_session_is_nobodys_bounce(line: str, expected: str) -> None:
    assert said(line, Phase.GREETING) is ReplyClass[expected]


@pytest.mark.parametrize(
    "line", ["000 x", "999 x", "600 x", "100 x", "hello", "", "2500 ok", "25", "\0\0\0 x", "354 x"]
)
def test_nonsense_is_transient_before_the_dot_and_uncertain_after_it(line: str) -> None:
    assert said(line, Phase.RCPT) is ReplyClass.TRANSIENT
    assert said(line, Phase.DOT) is ReplyClass.UNCERTAIN


@pytest.mark.parametrize(
    ("line", "phase", "expected"),
    [
        ("250 2.0.0 queued", Phase.DOT, ReplyClass.ACCEPTED),
        ("251 forwarded", Phase.RCPT, ReplyClass.ACCEPTED),
        ("354 go ahead", Phase.DATA, ReplyClass.ACCEPTED),
        ("250 go ahead?", Phase.DATA, ReplyClass.TRANSIENT),
        ("221 bye", Phase.DOT, ReplyClass.UNCERTAIN),
        ("235 welcome", Phase.AUTH, ReplyClass.ACCEPTED),
        ("220 hello", Phase.GREETING, ReplyClass.ACCEPTED),
    ],
)
def test_what_counts_as_yes(line: str, phase: Phase, expected: ReplyClass) -> None:
    assert said(line, phase) is expected


@given(st.integers(0, 999), st.sampled_from(Phase), st.text(max_size=80))
def test_every_reply_means_something(code: int, phase: Phase, text: str) -> None:
    meaning = classify(Reply(code, None, text), phase)
    if meaning is ReplyClass.UNCERTAIN:
        assert phase is Phase.DOT
    if meaning in {ReplyClass.HARD, ReplyClass.SOFT}:
        assert phase in NAMED
    if 400 <= code < 500 and phase in TRANSACTION:
        assert meaning is ReplyClass.TRANSIENT


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_octets_parse(lines: list[bytes]) -> None:
    reply = parse_reply(lines)
    assert 0 <= reply.code <= 999
    assert reply.text.isprintable()


@pytest.mark.parametrize(
    ("line", "code", "more", "text"),
    [
        (b"250 ok", 250, False, b"ok"),
        (b"250-ok", 250, True, b"ok"),
        (b"250", 250, False, b""),
        (b"250-", 250, True, b""),
        (b"250ok", 250, False, b"ok"),
        (b"2500 ok", 0, False, b"2500 ok"),
        (b" 250 ok", 0, False, b" 250 ok"),
        (b"\xd9\xa2\xd9\xa5\xd9\xa0 ok", 0, False, b"\xd9\xa2\xd9\xa5\xd9\xa0 ok"),
    ],
)
def test_lines(line: bytes, code: int, more: bool, text: bytes) -> None:
    parsed = parse_line(line)
    assert (parsed.code, parsed.more, parsed.text) == (code, more, text)


def test_the_lines_of_a_reply_are_joined_and_cut() -> None:
    reply = parse_reply([b"550-5.1.1 no such", b"550 5.1.1 user\0\xff\r" + b"x" * 900])
    assert (reply.code, reply.enhanced) == (550, "5.1.1")
    assert reply.text.startswith("5.1.1 no such 5.1.1 user \N{REPLACEMENT CHARACTER} xxx")
    assert len(reply.text) == 500


def test_a_reply_that_disagrees_with_itself_has_no_code() -> None:
    assert parse_reply([b"250-ok", b"550 no"]).code == 0
    assert parse_reply([]).code == 0


@pytest.mark.parametrize("text", ["5.1.1.1 x", "2.1.1 x", "5.1 x", "5.1.1111 x", "x 5.1.1"])
def test_what_is_no_enhanced_code_of_this_reply(text: str) -> None:
    assert parse_reply([f"550 {text}".encode()]).enhanced is None
