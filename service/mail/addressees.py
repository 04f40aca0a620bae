"""Whom a mail names as its addressee: the tokens in the few header fields that say so, and nothing else of it.

A token is an authority by itself (128 bits of HMAC), so no field need be believed. Those that a mail server writes come
first all the same: where more is named than is looked at, what the mail was delivered for must not be crowded out.
"""

from __future__ import annotations

import re

from service.domain.slots import TOKEN_LENGTH
from service.mail.leave_address import LeaveAddress

FIELDS = ("Delivered-To", "X-Original-To", "Envelope-To", "To", "Cc")
MOST_TOKENS = 8  # of one mail; who wants more to leave writes more mails

_LINE = re.compile(rb"\r?\n")
# What stands around addresses in a header (RFC 5322, 3.4). One pass, whatever is written there: a pattern for the
# address itself would begin anew at each octet of a long run.
_AROUND = re.compile(rb"[\s<>()\[\],;:\"\\\x00]+")
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{TOKEN_LENGTH}}}")


def tokens(header: bytes, leave: LeaveAddress) -> tuple[str, ...]:
    """What has the form of a token, in addresses of `leave`; each once, at most `MOST_TOKENS`.

    `header` holds fields as they were fetched: folded, cut off at any octet, or nonsense. Nothing is decoded: an
    encoded word is never part of an address (RFC 2047, section 5).
    """
    found: dict[bytes, dict[str, None]] = {name.lower().encode(): {} for name in FIELDS}
    name = b""
    for line in _LINE.split(header):
        value = line
        if not line[:1].isspace():
            name, _, value = line.partition(b":")
            name = name.strip().lower()
        if name in found:
            for word in _AROUND.split(value):
                token = leave.token(word.decode("ascii", "replace")) if b"@" in word else None
                if token is not None and _TOKEN.fullmatch(token):
                    found[name][token] = None
    distinct = dict.fromkeys(token for named in found.values() for token in named)
    return tuple(distinct)[:MOST_TOKENS]
