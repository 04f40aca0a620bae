"""What a mail server said, and what it means for one delivery.

Pure rules: bytes and time-outs are the business of `service.mail`, states of a delivery that of `delivery`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

TEXT_LIMIT = 500  # characters of a server's words that are kept: enough to explain, too little to fill a disk
GARBLED = 0  # the code of a reply that is none


class Phase(enum.Enum):
    """Where in a session a reply was read, or missed."""

    CONNECT = "connect"
    GREETING = "greeting"
    TLS = "tls"
    EHLO = "ehlo"
    AUTH = "auth"
    RSET = "rset"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    DOT = "dot"

    __hash__ = object.__hash__  # an Enum's own is a function in Python, called for every letter


class ReplyClass(enum.Enum):
    """What becomes of the delivery; the values are stored, in the database and (by position) in journals."""

    ACCEPTED = "accepted"
    HARD = "hard"
    SOFT = "soft"
    TRANSIENT = "transient"
    POLICY = "policy"
    CONTENT = "content"
    PROTOCOL = "protocol"
    RELAY = "relay"
    UNCERTAIN = "uncertain"
    NOT_SENT = "not_sent"  # no reply at all: provably no final dot, give it back to pending

    __hash__ = object.__hash__  # as of `Phase`


class Reply(NamedTuple):
    """One complete reply.

    `code` is 0 when the server's bytes were no reply; `enhanced` is an RFC 3463 code that agrees with `code`, else
    None; `text` is the lines joined by spaces, printable, cut at `TEXT_LIMIT` characters. Addresses are still in it.
    """

    code: int
    enhanced: str | None
    text: str


@dataclass(frozen=True, slots=True)
class ReplyLine:
    """One line: `more` says that another one of the same reply follows (RFC 5321 §4.2.1)."""

    code: int
    more: bool
    text: bytes


_LINE = re.compile(rb"([0-9]{3})(?![0-9])([ \t-]?)(.*)", re.DOTALL)
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")


def parse_line(line: bytes) -> ReplyLine:
    """The parts of one line without its line end; code 0 when it does not start with exactly three digits.

    "250", "250 ok", "250-ok" and the malformed "250ok" are all read; what cannot be read ends the reply.
    """
    match = _LINE.match(line)
    if match is None:
        return ReplyLine(GARBLED, more=False, text=line)
    return ReplyLine(int(match[1]), match[2] == b"-", match[3])


def parse_reply(lines: Sequence[bytes]) -> Reply:
    """The reply made of these lines, which lack their line ends.

    Lines that disagree about the code make it 0: whoever says both "250" and "550" has said neither.
    """
    if len(lines) == 1 and lines[0][3:4] == b" " and lines[0][:3].isdigit():
        code, text = int(lines[0][:3]), printable(lines[0][4:])  # nearly all replies, at a third of the cost
    else:
        parsed = [parse_line(line) for line in lines]
        codes = {line.code for line in parsed}
        code = codes.pop() if len(codes) == 1 else GARBLED
        text = " ".join(printable(line.text) for line in parsed).strip()
    text = text[:TEXT_LIMIT]
    found = _ENHANCED.match(text) if code else None
    return Reply(code, found[0] if found and found[0][0] == str(code)[0] else None, text)


def printable(text: bytes) -> str:
    """A server's bytes as text that is safe to store and show: UTF-8 where it is, no controls, no bidi overrides."""
    decoded = text.decode("utf-8", "replace")
    if not decoded.isprintable():
        decoded = "".join(letter if letter.isprintable() else " " for letter in decoded)
    return decoded.strip()


_SESSION = frozenset({Phase.CONNECT, Phase.GREETING, Phase.TLS, Phase.EHLO, Phase.AUTH})
_AUTHENTICATION = frozenset({524, 525, 530, 534, 535, 538})
_HARD = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"})
_SENDER = frozenset({"5.1.7", "5.1.8", "5.1.9"})
_SIZE = frozenset({"5.2.3", "5.3.4"})

# Words are asked only when no enhanced code decides. Policy first: "user unknown in our spam list" suppresses nobody.
_POLICY_WORDS = re.compile(
    r"spam|block|black ?list|deny ?list|denied|reputation|polic[yi]|dmarc|\bspf\b|dkim|reject(ed)? due|unsolicited"
    r"|not (allowed|permitted|authori[sz]ed)|unable to relay|relaying",
    re.IGNORECASE,
)
# Before a body only: after it "authentication" is mostly that of the letter.
_LOGIN_WORDS = re.compile(r"not logged in|log ?in (is )?required|smtp auth\w* (is )?required", re.IGNORECASE)
_UNKNOWN_WORDS = re.compile(
    r"(user|mailbox|recipient|address|account|domain)[^.;]{0,60}"
    r"(unknown|not found|does(n't| not) exist|not exist|invalid|no longer|doesn't have)"
    r"|(unknown|no such|invalid) (local |virtual |alias )?(user|mailbox|recipient|address|account|person)"
    r"|no mailbox|user not local|does not accept mail",
    re.IGNORECASE,
)
_FULL_WORDS = re.compile(r"quota|full|storage|disabled|inactive", re.IGNORECASE)
_SIZE_WORDS = re.compile(r"too (large|big|long)|message size|size (limit|exceed)|exceeds? .{0,20}size", re.IGNORECASE)


def classify(reply: Reply, phase: Phase) -> ReplyClass:
    """What `reply`, read in `phase`, means for a transaction with one recipient.

    Before RCPT nobody is named yet, so nothing said there is ever hard or soft. A reply after the final dot that
    cannot be understood leaves the delivery uncertain; anywhere else it is transient, because nothing was handed over.
    """
    kind = reply.code // 100
    if kind in {2, 3}:
        return _positive(reply.code, phase)
    if kind not in {4, 5}:
        return ReplyClass.UNCERTAIN if phase is Phase.DOT else ReplyClass.TRANSIENT
    if phase in _SESSION:
        return _session_refusal(reply.code, phase)
    if kind == 4:
        named = phase is not Phase.MAIL
        return ReplyClass.SOFT if named and reply.enhanced == "4.2.2" else ReplyClass.TRANSIENT
    refused = _permanent(reply, phase)
    if phase in {Phase.MAIL, Phase.RSET} and refused in {ReplyClass.HARD, ReplyClass.SOFT}:
        return ReplyClass.POLICY
    return refused


_PATIENCE = re.compile(r"4\.7\.(0|28|65[0-9])")


def asks_for_patience(reply: Reply) -> bool:
    """Whether a provider finds that it gets too many letters, or too many at once: 421, 4.7.0, 4.7.28, 4.7.650 ff."""
    return reply.code == 421 or (reply.enhanced is not None and _PATIENCE.fullmatch(reply.enhanced) is not None)


def _positive(code: int, phase: Phase) -> ReplyClass:
    expected = 3 if phase is Phase.DATA else 2
    # 221 or 354 after the dot say nothing about the message: the server is out of step with us.
    if code // 100 == expected and code != 221:
        return ReplyClass.ACCEPTED
    return ReplyClass.UNCERTAIN if phase is Phase.DOT else ReplyClass.TRANSIENT


def _session_refusal(code: int, phase: Phase) -> ReplyClass:
    if code == 421 or (code < 500 and phase in {Phase.CONNECT, Phase.GREETING, Phase.EHLO}):
        return ReplyClass.TRANSIENT
    return ReplyClass.RELAY


def _permanent(reply: Reply, phase: Phase) -> ReplyClass:
    if reply.code in _AUTHENTICATION or reply.enhanced == "5.7.8":
        return ReplyClass.RELAY
    if phase in {Phase.MAIL, Phase.RCPT} and _LOGIN_WORDS.search(reply.text):
        return ReplyClass.RELAY
    by_enhanced = _by_enhanced(reply.enhanced) if reply.enhanced else None
    return by_enhanced or _by_words(reply.text) or _by_code(reply.code, phase)


def _by_enhanced(enhanced: str) -> ReplyClass | None:
    if enhanced in _HARD:
        return ReplyClass.HARD
    if enhanced in _SENDER:
        return ReplyClass.POLICY
    if enhanced in _SIZE:
        return ReplyClass.CONTENT
    by_subject = {
        "2": ReplyClass.SOFT,
        "5": ReplyClass.PROTOCOL,
        "6": ReplyClass.CONTENT,
        "7": ReplyClass.POLICY,
    }
    return by_subject.get(enhanced.split(".")[1])


def _by_words(text: str) -> ReplyClass | None:
    for words, meaning in (
        (_SIZE_WORDS, ReplyClass.CONTENT),
        (_POLICY_WORDS, ReplyClass.POLICY),
        (_UNKNOWN_WORDS, ReplyClass.HARD),
        (_FULL_WORDS, ReplyClass.SOFT),
    ):
        if words.search(text):
            return meaning
    return None


def _by_code(code: int, phase: Phase) -> ReplyClass:
    if code in {500, 501, 502, 503, 504, 555}:
        return ReplyClass.PROTOCOL
    if code == 556:  # RFC 7504: the domain takes no mail
        return ReplyClass.HARD
    if code == 523 or (code == 552 and phase is Phase.MAIL):  # the answer to SIZE=
        return ReplyClass.CONTENT
    # A bare refusal of a recipient may mean anything; scored, it suppresses only a reader who is refused for days.
    if code == 552 or (code in {550, 551, 553} and phase is Phase.RCPT):
        return ReplyClass.SOFT
    return ReplyClass.POLICY
