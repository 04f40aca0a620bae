"""Reading a journal from its end, in parts: the last word on each attempt comes first, whatever the file's size."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.mail.autopsy import header_of
from service.mail.journal import HEADER_SIZE, KIND_REPLY, RECORD, Record, journals_dir, unpack

_PART = 5_000  # records


@dataclass(frozen=True, slots=True)
class Past:
    """A journal whose owner may be alive (then it may be without replies only for the moment)."""

    path: Path
    host: str
    boot: str
    sender: int

    @property
    def settled(self) -> bool:
        """Whether its verdicts were in the database once."""
        return self.path.suffix == ".settled"

    def last_words(self) -> Iterator[list[Record]]:
        """The records in parts, newest first; within a part, one for each delivery."""
        octets = self.path.read_bytes()
        step = _PART * RECORD.size
        whole = (len(octets) - HEADER_SIZE) // RECORD.size * RECORD.size
        empty = bytes(RECORD.size)
        for start in reversed(range(HEADER_SIZE, HEADER_SIZE + whole, step)):
            last: dict[int, Record] = {}
            for at in range(start, min(start + step, HEADER_SIZE + whole), RECORD.size):
                slot = octets[at : at + RECORD.size]
                record = None if slot == empty else unpack(slot)
                # Replies come in any order: an older attempt's may follow a newer one's dot.
                if record is not None and record.attempt >= last.get(record.delivery_id, record).attempt:
                    last[record.delivery_id] = record
            if last:
                yield list(last.values())


def replied(record: Record) -> bool:
    """Whether the server's word is on record."""
    return record.kind == KIND_REPLY


def journals(data_dir: Path, *, since: dt.datetime | None) -> Iterator[Past]:
    """The readable journals of a data directory, oldest first: the unsettled ones, and the settled written `since`."""
    paths = list(journals_dir(data_dir).glob("*.journal"))
    if since is not None:
        paths += journals_dir(data_dir).glob("*.settled")
    for path in sorted(paths, key=lambda path: path.name.partition("-")[2]):
        try:
            old = path.suffix == ".settled" and since is not None and path.stat().st_mtime < since.timestamp()
            header = None if old else header_of(path)
        except FileNotFoundError:
            continue  # settled or removed since it was listed
        if header is not None:
            yield Past(path, header.host, header.boot, header.sender)
