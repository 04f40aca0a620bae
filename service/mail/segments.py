"""The compiled message: constant octets, and between them the places of one reader's values. A letter is one join.

Nothing here knows MIME: `message` builds the template once, this cuts it once, and joins it a million times.
"""

from __future__ import annotations

import hashlib
import json
import struct
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from service.domain.errors import InvalidInputError
from service.domain.slots import HEADER_SLOTS, MARKERS, TOKEN_LENGTH, TOKEN_SLOTS, Slot, SlotValues
from service.mail.transfer import LINE_LIMIT, Needle, longest_line

_MAGIC = b"TZR1"
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value goes; with `encoded`, as the base64 of `prefix` + value + `suffix`."""

    slot: Slot
    prefix: bytes = b""
    suffix: bytes = b""
    encoded: bool = False


@dataclass(frozen=True, slots=True)
class Segments:
    """One message in one encoding, cut at its places: `statics` has one element more than `places`.

    `dot_stuffed` says which of the two forms of the wire this is: for DATA (RFC 5321 §4.5.2) or for BDAT (RFC 3030).
    """

    statics: tuple[bytes, ...]
    places: tuple[Place, ...]
    dot_stuffed: bool = False
    _parts: list[bytes] = field(init=False, repr=False, compare=False)
    _plain: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)
    _encoded: tuple[tuple[int, int, bytes, bytes], ...] = field(init=False, repr=False, compare=False)
    _constant: int = field(init=False, repr=False, compare=False)
    _varying: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.statics) != len(self.places) + 1:
            raise ValueError(f"{len(self.places)} places need {len(self.places) + 1} statics, not {len(self.statics)}")
        parts = [b""] * (2 * len(self.places) + 1)
        parts[::2] = self.statics
        at = [(2 * number + 1, place) for number, place in enumerate(self.places)]
        init = object.__setattr__
        init(self, "_parts", parts)
        init(self, "_plain", tuple((i, int(p.slot)) for i, p in at if not p.encoded))
        init(self, "_encoded", tuple((i, int(p.slot), p.prefix, p.suffix) for i, p in at if p.encoded))
        init(self, "_varying", tuple(int(p.slot) for p in self.places if p.slot in HEADER_SLOTS))
        init(self, "_constant", sum(map(len, self.statics)) + sum(map(_fixed_size, self.places)))

    def parts(self, values: SlotValues) -> list[bytes]:
        """The message of one reader in its parts, ending in CRLF, without the final dot.

        Values have passed `slots.check_values`.
        """
        parts = self._parts.copy()
        for at, slot in self._plain:
            parts[at] = values[slot]
        for at, slot, prefix, suffix in self._encoded:
            parts[at] = b2a_base64(prefix + values[slot] + suffix, newline=False)
        return parts

    def join(self, values: SlotValues) -> bytes:
        """As `parts`, in one."""
        return b"".join(self.parts(values))

    def size(self, values: SlotValues) -> int:
        """Octets that `join` will return; of the unstuffed form it is the number for SIZE= (RFC 1870 §3)."""
        size = self._constant
        for slot in self._varying:
            size += len(values[slot])
        return size

    def stuffed(self) -> Segments:
        """The same message with a dot doubled at the start of each line.

        Each static can be treated alone: a value never starts with a dot and never holds a line end, so a line that
        starts with a dot starts, and its line end before it stands, within one static.
        """
        if self.dot_stuffed:
            return self
        return Segments(tuple(s.replace(b"\r\n.", b"\r\n..") for s in self.statics), self.places, dot_stuffed=True)


def _fixed_size(place: Place) -> int:
    if place.slot in HEADER_SLOTS:
        return 0
    if not place.encoded:
        return TOKEN_LENGTH
    return -(-(len(place.prefix) + TOKEN_LENGTH + len(place.suffix)) // 3) * 4


@dataclass(frozen=True, slots=True)
class Rendition:
    """One edition, frozen: the message for relays with 8BITMIME (None when a line is too long for it) and for others.

    `digest` names exactly these octets; it is what was approved and what each letter is made of.
    """

    eight_bit: Segments | None
    seven_bit: Segments
    digest: str = field(init=False, compare=False)
    eight_bit_stuffed: Segments | None = field(init=False, repr=False, compare=False)
    seven_bit_stuffed: Segments = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        init = object.__setattr__
        init(self, "eight_bit_stuffed", self.eight_bit.stuffed() if self.eight_bit else None)
        init(self, "seven_bit_stuffed", self.seven_bit.stuffed())
        init(self, "digest", hashlib.sha256(self.to_bytes()).hexdigest())

    def to_bytes(self) -> bytes:
        """A form to store: a JSON table of contents and the octets it speaks of. The same rendition, the same bytes."""
        forms = [self.seven_bit] if self.eight_bit is None else [self.seven_bit, self.eight_bit]
        blob = bytearray()
        contents = json.dumps([_describe(form, blob) for form in forms], separators=(",", ":")).encode()
        return _MAGIC + _LENGTH.pack(len(contents)) + contents + bytes(blob)

    @classmethod
    def from_bytes(cls, stored: bytes, *, digest: str | None = None) -> Rendition:
        """The rendition that `to_bytes` wrote.

        Raises `InvalidInputError` when the bytes are damaged, or are not those that `digest` names.
        """
        if digest is not None and hashlib.sha256(stored).hexdigest() != digest:
            raise InvalidInputError(f"stored rendition does not match its digest {digest}: restore it from a backup")
        try:
            return cls._parse(memoryview(stored))
        except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
            raise InvalidInputError(f"stored rendition cannot be read: {error}") from error

    @classmethod
    def _parse(cls, stored: memoryview) -> Rendition:
        if stored[:4] != _MAGIC:
            raise ValueError("it does not start with TZR1")
        (length,) = _LENGTH.unpack(stored[4:8])
        blob = _Blob(stored[8 + length :])
        forms = [_restore(described, blob) for described in json.loads(bytes(stored[8 : 8 + length]))]
        blob.finish()
        return cls(seven_bit=forms[0], eight_bit=forms[1] if len(forms) > 1 else None)


def _describe(form: Segments, blob: bytearray) -> dict[str, object]:
    for static in form.statics:
        blob += static
    for place in form.places:
        blob += place.prefix + place.suffix
    return {
        "statics": [len(static) for static in form.statics],
        "places": [[int(p.slot), len(p.prefix), len(p.suffix), int(p.encoded)] for p in form.places],
    }


class _Blob:
    """Reads octets off the front and notices when there are too few or too many."""

    def __init__(self, octets: memoryview) -> None:
        self._octets = octets
        self._at = 0

    def take(self, length: int) -> bytes:
        taken = bytes(self._octets[self._at : self._at + length])
        if len(taken) != length:
            raise ValueError("it is cut short")
        self._at += length
        return taken

    def finish(self) -> None:
        if self._at != len(self._octets):
            raise ValueError("it has octets too many")


def _restore(described: dict[str, list[object]], blob: _Blob) -> Segments:
    statics = tuple(blob.take(_count(length)) for length in described["statics"])
    places = []
    for entry in described["places"]:
        if not isinstance(entry, list):
            raise TypeError("a place is a list")
        slot, prefix, suffix, encoded = map(_count, entry)
        places.append(Place(Slot(slot), blob.take(prefix), blob.take(suffix), bool(encoded)))
    return Segments(statics, tuple(places))


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no length")
    return value


def compile_message(template: bytes, needles: Sequence[Needle] = ()) -> Segments:
    """The segments of `template`: a complete message with CRLF line ends that holds the markers of its slots.

    Token markers are cut wherever they stand, header markers only in the header. `needles` add the base64 lines that
    hold a marker. Raises `InvalidInputError` for bare CR or LF, for lines above 998 octets, for a marker left uncut.
    """
    template = template if template.endswith(b"\r\n") else template + b"\r\n"
    bare = template.replace(b"\r\n", b"")
    if b"\r" in bare or b"\n" in bare or b"\0" in bare:
        raise InvalidInputError("the message holds a bare CR, a bare LF or a NUL")
    if longest_line(template) > LINE_LIMIT:
        raise InvalidInputError(f"the message has a line of more than {LINE_LIMIT} octets")
    header_end = template.index(b"\r\n\r\n") + 2
    cuts = sorted(_cuts(template[:header_end], template[header_end:], needles))
    statics, places, done = [], [], 0
    for start, end, place in cuts:
        statics.append(template[done:start])
        places.append(place)
        done = end
    statics.append(template[done:])
    return Segments(tuple(statics), tuple(places))


_TOKEN_NEEDLES = tuple(Needle(MARKERS[slot].encode(), slot) for slot in TOKEN_SLOTS)
_HEADER_NEEDLES = tuple(Needle(MARKERS[slot].encode(), slot) for slot in HEADER_SLOTS)


def _cuts(header: bytes, body: bytes, needles: Sequence[Needle]) -> Iterable[tuple[int, int, Place]]:
    for needle in (*_TOKEN_NEEDLES, *_HEADER_NEEDLES):
        yield from _find(header, needle, 0)
    for needle in (*_TOKEN_NEEDLES, *needles):
        yield from _find(body, needle, len(header))


def _find(octets: bytes, needle: Needle, offset: int) -> Iterable[tuple[int, int, Place]]:
    place = Place(needle.slot, needle.prefix, needle.suffix, needle.encoded)
    at = octets.find(needle.text)
    while at >= 0:
        end = at + len(needle.text)
        yield at + offset, end + offset, place
        at = octets.find(needle.text, end)
