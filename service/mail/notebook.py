"""What a host remembers beside the database, so that a database that was set back in time is noticed.

Two files in the data directory: `mark`, a number that grows with every sweep here and in the database, and `begun.log`,
one line each time that this host has begun to send a mailing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

_LINE = re.compile(rb"(\d{4}-W\d{2}) (\d+) (\d+) (\d+)\n")


@dataclass(frozen=True, slots=True)
class Mark:
    """How far this host had come: `number` is in the database, too, or it is older than this file.

    `database` names the running server or file it was read from, `delivery` the highest delivery number it knew,
    `hosts` the other hosts that were about, with the milliseconds since 1970 at which it had seen each last, and
    `raised_at` those at which this host was seen itself, by the same clock. `departures` is what departures.log had in
    octets at two moments, and when they were, the older first; empty where nobody wrote it.
    """

    number: int
    database: str
    delivery: int
    hosts: Mapping[str, int] = field(default_factory=dict)
    raised_at: int = 0
    departures: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Begun:
    """A mailing that this host has begun to send; the instants are milliseconds since 1970, UTC.

    Numbers are given out again by a database that was set back: the mailing is known by its number and `created_at`.
    """

    week: str
    mailing: int
    created_at: int
    begun_at: int


def _same(one: Begun, other: Begun) -> bool:
    return (one.mailing, one.created_at) == (other.mailing, other.created_at)


@dataclass(frozen=True, slots=True)
class Notebook:
    """The two files of one data directory."""

    data_dir: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep all other processes of this host from it meanwhile."""
        with self._locked("mark.lock"):
            yield

    def mark(self) -> Mark | None:
        """What was written last; None where nothing was, or it cannot be read."""
        try:
            read = json.loads((self.data_dir / "mark").read_text("ascii"))
            # What `get` asks for was not written by a program from before.
            others = {str(host): int(seen) for host, seen in read.get("hosts", {}).items()}
            return Mark(
                int(read["number"]),
                str(read["database"]),
                int(read["delivery"]),
                others,
                int(read.get("raised_at", 0)),
                tuple((int(octets), int(at)) for octets, at in read.get("departures", ())),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, mark: Mark) -> None:
        """Replace the mark, durably."""
        path, made = self.data_dir / "mark", self.data_dir / "mark.new"
        with made.open("w", encoding="ascii") as file:
            json.dump(asdict(mark), file)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
        folder = os.open(self.data_dir, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def begin(self, begun: Begun, *, started_at: int) -> None:
        """Write the mailing down, durably, unless it is; before the first letter of it is gated here.

        A line from before `started_at` is of another time that it was sent: a database that was set back has forgotten
        that one, and an operator has had it sent to everybody again.
        """
        with self._locked("begun.lock"):
            if any(_same(one, begun) and one.begun_at >= started_at for one in self.begun()):
                return
            with (self.data_dir / "begun.log").open("a+b") as file:
                size = file.seek(0, os.SEEK_END)
                torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
                line = f"{begun.week} {begun.mailing} {begun.created_at} {begun.begun_at}\n".encode("ascii")
                file.write(b"\n" + line if torn else line)
                file.flush()
                os.fsync(file.fileno())

    def begun(self) -> list[Begun]:
        """Every mailing that was written down, oldest first."""
        try:
            lines = (self.data_dir / "begun.log").read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        found = (_LINE.fullmatch(line) for line in lines)
        return [Begun(one[1].decode(), int(one[2]), int(one[3]), int(one[4])) for one in found if one]

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.data_dir / name).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
