"""Reading the journal of a process that is gone: what became of each attempt it was making."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import fcntl
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.domain.errors import InvalidInputError
from service.domain.replies import ReplyClass
from service.mail.host import boot_id
from service.mail.journal import HEADER, HEADER_SIZE, KIND_REPLY, MAGIC, RECORD, Record, listed, unpack

_BLOCK = 1 << 16  # octets: a journal of a million letters is as long as all else that a process holds


class Fate(enum.Enum):
    """What a journal knows of an attempt."""

    NOT_SENT = "not_sent"  # provably no final dot: back to pending
    REPLIED = "replied"  # the server's word is on record
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fate, the reply if there is one, and when (Unix seconds) the last record of the attempt was written."""

    fate: Fate
    reply_class: ReplyClass | None = None
    code: int = 0
    enhanced: str | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class JournalContents:
    """A journal as read back. `torn` records were being written when the process died; a torn dot was never sent."""

    path: Path
    host_id: str
    boot_id: str
    sender_id: int
    created: float
    records: tuple[Record, ...]
    torn: int
    damaged: bool
    rebooted: bool
    _last: dict[tuple[int, int], Record]

    def verdict(self, delivery_id: int, attempt: int) -> Verdict:
        """What became of this attempt, which this journal's owner had gated.

        After a reboot, or in a damaged file, a missing record proves nothing: then only a reply decides.
        """
        last = self._last.get((delivery_id, attempt))
        if last is None:
            return Verdict(Fate.UNCERTAIN if self.rebooted or self.damaged else Fate.NOT_SENT)
        if last.kind != KIND_REPLY:
            return Verdict(Fate.UNCERTAIN, at=last.at)
        return Verdict(Fate.REPLIED, last.reply_class, last.code, last.enhanced, last.at)


def read(path: Path, *, boot: str | None = None) -> JournalContents:
    """The contents of the journal at `path`, written by any boot of any host; `boot` is the present one.

    Raises `InvalidInputError` when its header cannot be read: then nothing is known of its owner's attempts.
    """
    octets = path.read_bytes()
    header = _header(octets)
    if header is None:
        raise InvalidInputError(f"journal {path.name} has no readable header: its attempts are uncertain")
    records, torn, damaged = _records(octets)
    return JournalContents(
        path=path,
        host_id=header.host,
        boot_id=header.boot,
        sender_id=header.sender,
        created=header.created,
        records=records,
        torn=torn,
        damaged=damaged,
        rebooted=header.boot != (boot or boot_id()),
        _last={(record.delivery_id, record.attempt): record for record in records},
    )


@dataclass(frozen=True, slots=True)
class Header:
    """Whose journal it is."""

    host: str
    boot: str
    sender: int
    created: float


def header_of(path: Path) -> Header | None:
    """The header of the journal at `path`; None where it cannot be read."""
    with path.open("rb") as file:
        return _header(file.read(HEADER.size))


def _header(octets: bytes) -> Header | None:
    header = octets[: HEADER.size]
    if len(header) < HEADER.size or HEADER.unpack(header)[-1] != zlib.crc32(header[:-4]) or header[:8] != MAGIC:
        return None
    _, host, boot, sender, created, _ = HEADER.unpack(header)
    return Header(host.decode(), boot.decode(), sender, created)


def _records(octets: bytes) -> tuple[tuple[Record, ...], int, bool]:
    records: list[Record] = []
    torn = 0
    damaged = False
    empty = bytes(RECORD.size)
    for at in range(HEADER_SIZE, len(octets) - RECORD.size + 1, RECORD.size):
        slot = octets[at : at + RECORD.size]
        record = None if slot == empty else unpack(slot)
        if record is not None:
            # A whole record after a gap: not one process dying, but pages that never reached the disk.
            damaged = damaged or torn > 0 or len(records) * RECORD.size != at - HEADER_SIZE
            records.append(record)
        elif slot != empty:
            torn += 1
    return tuple(records), torn, damaged


def is_dead(path: Path) -> bool:
    """Whether the owner is gone: its lock can be taken. Only for journals of this host."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def unsettled(data_dir: Path) -> Iterator[Path]:
    """The journals of a data directory that nobody has marked as settled, oldest first; some may be alive.

    Raises OSError where their folder may not be looked into.
    """
    yield from sorted(listed(data_dir, ".journal"), key=_written_at)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0  # settled by another process since it was listed, or whoever opens it will hear why he may not


def named_sender(path: Path) -> int:
    """The sender whose journal this is, by its name: for one whose header cannot be read. 0 for a stranger's file."""
    number = path.name.partition("-")[0]
    return int(number) if number.isdecimal() else 0


def settle(path: Path) -> Path:
    """Mark a dead journal as dealt with: its verdicts are in the database. Returns its new path.

    It keeps its records and gives the disk back the room that it had reserved for more.
    """
    before = path.stat()
    os.truncate(path, min(before.st_size, _written(path)))
    # Its time is that of its last record: by it the file is looked for, and removed.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return path.rename(path.with_suffix(".settled"))


def _written(path: Path) -> int:
    """Up to where the file holds anything, in octets: to the end of its last record. Read from its end, by blocks."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        written = 0
        while end and not written:
            start = max(0, end - _BLOCK)
            file.seek(start)
            block = file.read(end - start).rstrip(b"\0")
            written, end = start + len(block) if block else 0, start
    return HEADER_SIZE + -(-max(written - HEADER_SIZE, 0) // RECORD.size) * RECORD.size


def prune(data_dir: Path, *, older_than: dt.datetime) -> int:
    """Remove settled journals last written before `older_than`, and return how many; unsettled ones stay for ever.

    One that may not be opened or removed stays, and keeps none of the others. OSError as of `unsettled`.
    """
    removed = 0
    for path in listed(data_dir, ".settled"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < older_than.timestamp() and is_dead(path):
                path.unlink()
                removed += 1
    return removed
