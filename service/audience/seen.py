"""What a dry run would have stored, in a few octets each: there is no table to ask when nothing is written."""

from __future__ import annotations

_HASH = 8
_WIDTH = _HASH + 1


class Seen:
    """An octet for each of many keyed hashes, of which it keeps 8: some 16 MB for a million, where a dict takes 120.

    Two of a million share their first 10 octets once in 10^12 files.
    """

    def __init__(self) -> None:
        self._buckets = [b""] * 65536

    def get(self, value: bytes) -> int | None:
        """The octet of that hash; None for one that is not here."""
        bucket, rest = _parts(value)
        known = self._buckets[bucket]
        place = _place(known, rest)
        return None if place < 0 else known[place + _HASH]

    def put(self, value: bytes, octet: int) -> None:
        """Keep the octet, in the place of any before."""
        bucket, rest = _parts(value)
        known = self._buckets[bucket]
        place = _place(known, rest)
        if place < 0:
            place = len(known)
        self._buckets[bucket] = b"".join((known[:place], rest, bytes((octet,)), known[place + _WIDTH :]))


def _parts(value: bytes) -> tuple[int, bytes]:
    return int.from_bytes(value[:2], "big"), value[2 : 2 + _HASH]


def _place(known: bytes, rest: bytes) -> int:
    """Where a record begins with `rest`, which may also stand across two; -1 where none does."""
    place = known.find(rest)
    while place > 0 and place % _WIDTH:
        place = known.find(rest, place + 1)
    return place
