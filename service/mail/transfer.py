"""Transfer encodings that keep the markers of `service.domain.slots` findable in the encoded text.

The standard library's encoders would break a marker in two or melt it into its neighbours; these give it a line of its
own, and say what that line looks like, so that `segments` can cut there.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

from service.domain.errors import InvalidInputError
from service.domain.slots import MARKERS, TOKEN_SLOTS, Slot

LINE_LIMIT = 998  # octets without CRLF (RFC 5321 §4.5.3.1.6)
_ENCODED_LIMIT = 76  # characters (RFC 2045 §6.7 and §6.8)
_BASE64_OCTETS = 57  # make 76 characters

_TOKEN_MARKERS = {MARKERS[slot].encode(): slot for slot in TOKEN_SLOTS}
_MARKER = re.compile(b"|".join(_TOKEN_MARKERS))


@dataclass(frozen=True, slots=True)
class Needle:
    """What to look for in the template: `text` is to be replaced by the value of `slot`.

    With `encoded`, by the base64 of `prefix` + value + `suffix`, which is exactly as long as `text`.
    """

    text: bytes
    slot: Slot
    prefix: bytes = b""
    suffix: bytes = b""
    encoded: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """A body in one transfer encoding: its Content-Transfer-Encoding, its lines joined by CRLF, and its own needles."""

    name: str
    body: bytes
    needles: tuple[Needle, ...] = ()


def seven_bit(body: bytes) -> Encoded:
    """`body`, which has CRLF line ends, in the shortest encoding whose lines are short and whose octets are below 128.

    Latin text comes out as it is or as quoted-printable, mostly Cyrillic text as base64.
    """
    if body.isascii() and longest_line(body) <= LINE_LIMIT:
        return Encoded("7bit", body)
    quoted, armoured = quoted_printable(body), base64(body)
    return min(quoted, armoured, key=lambda encoded: len(encoded.body))


def longest_line(body: bytes) -> int:
    """The length of the longest line in octets, without its line end."""
    return max(map(len, body.split(b"\r\n")))


def base64(body: bytes) -> Encoded:
    """`body` in base64, each marker with at most two neighbours on either side on one line of its own.

    A base64 line may end after any group of three octets, so the line before a marker simply ends early.
    """
    lines: list[bytes] = []
    needles: dict[bytes, Needle] = {}
    done = 0
    for match in _MARKER.finditer(body):
        if match.start() < done:
            raise InvalidInputError("two markers of a text stand closer together than three octets: put a word between")
        start = match.start() - (match.start() - done) % 3
        end = min(match.end() + -(match.end() - start) % 3, len(body))
        lines += _base64_lines(body[done:start])
        line = binascii.b2a_base64(body[start:end], newline=False)
        prefix, suffix = body[start : match.start()], body[match.end() : end]
        needles[line] = Needle(line, _TOKEN_MARKERS[match[0]], prefix, suffix, encoded=True)
        lines.append(line)
        done = end
    lines += _base64_lines(body[done:])
    return Encoded("base64", b"\r\n".join([*lines, b""]), tuple(needles.values()))


def _base64_lines(octets: bytes) -> list[bytes]:
    return [
        binascii.b2a_base64(octets[at : at + _BASE64_OCTETS], newline=False)
        for at in range(0, len(octets), _BASE64_OCTETS)
    ]


def quoted_printable(body: bytes) -> Encoded:
    """`body` in quoted-printable; a marker is never broken, since all its letters stand for themselves."""
    lines = (_quoted_line(line) for line in body.split(b"\r\n"))
    return Encoded("quoted-printable", b"\r\n".join(lines))


def _quoted_line(line: bytes) -> bytes:
    folded: list[bytes] = []
    room = _ENCODED_LIMIT
    atoms = _atoms(line)
    for number, atom in enumerate(atoms, start=1):
        # The soft break "=" needs a place of its own, unless the line ends here anyway.
        if len(atom) > room - (number < len(atoms)):
            folded.append(b"=\r\n")
            room = _ENCODED_LIMIT
        folded.append(atom)
        room -= len(atom)
    return b"".join(folded)


def _atoms(line: bytes) -> list[bytes]:
    atoms: list[bytes] = []
    done = 0
    for match in _MARKER.finditer(line):
        atoms += [_QUOTED[octet] for octet in line[done : match.start()]]
        atoms.append(match[0])
        done = match.end()
    atoms += [_QUOTED[octet] for octet in line[done:]]
    if atoms and atoms[-1] in {b" ", b"\t"}:  # white space at a line's end does not survive every relay
        atoms[-1] = b"=%02X" % atoms[-1][0]
    return atoms


_QUOTED = [
    bytes([octet]) if octet in b"\t " or (33 <= octet <= 126 and octet != 61) else b"=%02X" % octet
    for octet in range(256)
]
