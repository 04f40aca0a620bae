"""Which hashes a dry run has met, in a few octets each: there is no table to ask when nothing is written."""

from __future__ import annotations

_OCTETS = 8


class Seen:
    """A set of keyed hashes, kept as 8 octets of each: some 12 MB for a million, where a Python set takes 90."""

    def __init__(self) -> None:
        self._buckets = [b""] * 65536

    def add(self, value: bytes) -> bool:
        """Whether `value` is new here. Two of a million share their first 10 octets once in 10^12 files."""
        bucket, rest = int.from_bytes(value[:2], "big"), value[2 : 2 + _OCTETS]
        known = self._buckets[bucket]
        if any(known.startswith(rest, place) for place in range(0, len(known), _OCTETS)):
            return False
        self._buckets[bucket] = known + rest
        return True
