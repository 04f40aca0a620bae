"""Lists of addresses, one a line, as Mailman prints its members: `ann@example.org` or `Ann <ann@example.org>`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from service.audience.csv_lines import Broken, Line, Lines

_IN_BRACKETS = re.compile(r"<([^<>\s]+@[^<>\s]+)>\s*$")
# A header names its columns, and a line of a table has more than one.
_ALONE = re.compile(r"[^\s,;<>]+@[^\s,;<>]+")


def is_listed(text: str) -> bool:
    """Whether a line can be one of such a list."""
    return _address(text) is not None


def listed(lines: Lines) -> Iterator[Line | Broken]:
    """Each line with the address as its text, or what cannot be used; blank ones are passed over."""
    while (line := lines.next()) is not None:
        if line.text is None:
            yield Broken(line.number, line.reason)
        elif line.text.strip():
            address = _address(line.text)
            yield Broken(line.number, "the line is no address") if address is None else Line(line.number, address)


def _address(text: str) -> str | None:
    found = _IN_BRACKETS.search(text)
    if found:
        return found[1]
    alone = text.strip()
    return alone if _ALONE.fullmatch(alone) else None
