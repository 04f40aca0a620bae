"""Who has left, as keyed hashes in a file beside the database: a backup that is restored must bring nobody back.

One line each, `2019-W23 unsubscribed <hash>`; appended and synced before the database commits.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from service.domain.weeks import Week

_LINE = re.compile(rb"(\d{4}-W\d{2}) ([a-z]+) ([0-9a-f]{64})\n")


class Step(StrEnum):
    """What happened to an address; the last two undo, so that who came back is not sent away again."""

    UNSUBSCRIBED = "unsubscribed"
    ERASED = "erased"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    OPERATOR = "operator"
    LIFTED = "lifted"
    CONFIRMED = "confirmed"


_STEPS = frozenset(step.value for step in Step)


@dataclass(frozen=True, slots=True)
class Departure:
    """One line of the file."""

    week: Week
    step: Step
    address_hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DepartureLog:
    """The file of this host; others have their own."""

    path: Path

    def record(self, departures: Iterable[Departure]) -> None:
        """Append one line each, durable when this returns; raises OSError where the disk does not take them."""
        lines = b"".join(
            f"{one.week} {one.step.value} {one.address_hash.hex()}\n".encode("ascii") for one in departures
        )
        if not lines:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                # A power cut tore the last line: it must not swallow the next.
                lines = b"\n" + lines
            with open(descriptor, "ab", closefd=False) as file:
                file.write(lines)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def size(self) -> int:
        """The octets written so far: what `read` begins with next time, to read what came after."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, since: int = 0) -> Iterator[Departure]:
        """Every whole line after those octets, oldest first; nothing where there is no file yet."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(since)
            for line in file:
                match = _LINE.fullmatch(line)
                if match is not None and match[2].decode() in _STEPS:
                    yield Departure(
                        Week.parse(match[1].decode()), Step(match[2].decode()), bytes.fromhex(match[3].decode())
                    )
