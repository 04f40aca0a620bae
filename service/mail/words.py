"""Header text that people read, as RFC 2047 encoded words where it is not ASCII, folded at 76 characters."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable

_LINE = 76  # characters of a header line; an encoded word has at most 75 (RFC 2047 §2)
_WORD_OCTETS = 39  # make 52 characters of base64, 64 with their frame, so that the header's name fits before them
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")


def text_words(header: str, text: str) -> str:
    """The value of an unstructured header, folded with CRLF and one space."""
    return _fold(header, text.split(" ") if text.isascii() else _encode(text))


def mailbox_words(header: str, name: str, address: str) -> str:
    """`name` <`address`>, or the address alone without a name."""
    if not name:
        return address
    if not name.isascii():
        words = [*_encode(name)]
    elif _PHRASE.fullmatch(name):
        words = name.split(" ")
    else:
        words = ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"']
    return _fold(header, [*words, f"<{address}>"])


def _encode(text: str) -> Iterable[str]:
    """Encoded words that each hold whole characters: a client decodes them one by one."""
    octets = b""
    for character in text:
        encoded = character.encode()
        if len(octets) + len(encoded) > _WORD_OCTETS:
            yield _word(octets)
            octets = b""
        octets += encoded
    yield _word(octets)


def _word(octets: bytes) -> str:
    return f"=?utf-8?b?{b64encode(octets).decode()}?="


def _fold(header: str, words: Iterable[str]) -> str:
    folded, length = "", len(header) + 1
    for word in words:
        # A line of nothing but spaces would end the header for some readers: fold only before a word.
        if folded and word and length + 1 + len(word) > _LINE:
            folded, length = f"{folded}\r\n {word}", 1 + len(word)
        else:
            folded = f"{folded} {word}" if folded else word
            length += 1 + len(word)
    return folded
