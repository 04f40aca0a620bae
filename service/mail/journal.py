"""What this process has handed to the wire, on disk before the kernel has it.

A mapped file: a record is in the page cache, and so survives SIGKILL, as soon as it is copied, without a system call.
It holds delivery ids and reply codes, never an address.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import time
import zlib
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from service.domain.errors import UnavailableError
from service.domain.replies import Reply, ReplyClass
from service.mail.host import boot_id, host_id

RECORD = struct.Struct("<qiHBBdHHI")  # delivery, attempt, code, kind, class, time, enhanced subject and detail, CRC
BODY_SIZE = RECORD.size - 4
HEADER = struct.Struct("<8s36s36sqd28xI")  # magic, host id, boot id, sender id, created, CRC
HEADER_SIZE = 128
MAGIC = b"TZJOUR01"
KIND_DOT, KIND_REPLY = 1, 2
CLASSES = tuple(ReplyClass)

_CHUNK = 1 << 20  # octets: 32,768 records
# Records kept for the replies to dots already written: of 100 sessions with a few letters each under way, and more.
_RESERVE = 1024
_BODY = struct.Struct("<qiHBBdHH")
_CRC = struct.Struct("<I")
# By name, because every letter costs two records.
_pack, _pack_crc, _crc32, _time = _BODY.pack, _CRC.pack, zlib.crc32, time.time
_SIZE = RECORD.size
_RESERVED = _RESERVE * _SIZE
_ACCEPTED = CLASSES.index(ReplyClass.ACCEPTED)


class Journal:
    """The journal of one process; open it after fork, because its lock is what says that its owner lives.

    `prepare` and `dot` raise `UnavailableError` when the disk is full, before anything is handed over. Not thread-safe.
    """

    def __init__(self, data_dir: Path, *, sender_id: int) -> None:
        self._data_dir = data_dir
        self._sender_id = sender_id
        self.path, self._file, self._map = self._create()
        self._position = HEADER_SIZE
        self._allocated = _CHUNK

    def _create(self) -> tuple[Path, FileIO, mmap.mmap]:
        folder = journals_dir(self._data_dir)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{self._sender_id}-{time.time_ns()}.journal"
        hidden = path.with_suffix(".new")
        file = hidden.open("x+b", buffering=0)
        try:
            # Locked before it can be seen: otherwise a sweep could take a newborn for dead.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._allocate(file, 0)
            mapped = mmap.mmap(file.fileno(), _CHUNK, mmap.MAP_SHARED)
            mapped[:HEADER_SIZE] = _header(host_id(self._data_dir), boot_id(), self._sender_id, time.time())
            hidden.rename(path)
        except BaseException:
            file.close()
            hidden.unlink(missing_ok=True)
            raise
        return path, file, mapped

    def _allocate(self, file: FileIO, offset: int) -> None:
        try:
            # Blocks, not just a length: writing to a mapped hole on a full disk would be a SIGBUS after the dot.
            os.posix_fallocate(file.fileno(), offset, _CHUNK)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise
            raise UnavailableError(
                f"the disk of {self._data_dir} has no room for the delivery journal: free some, nothing was sent"
            ) from error

    def _extend(self) -> None:
        self._allocate(self._file, self._allocated)
        self._map.resize(self._allocated + _CHUNK)
        self._allocated += _CHUNK

    def prepare(self, letters: int) -> None:
        """Make sure that so many letters can be recorded; raises `UnavailableError` when the disk is full."""
        while self._position + (_RESERVE + 2 * letters) * RECORD.size > self._allocated:
            self._extend()

    def dot(self, delivery_id: int, attempt: int) -> None:
        """Record that the final dot, or BDAT LAST, of this attempt is about to be handed to the kernel."""
        if self._position + _RESERVED > self._allocated:
            self.prepare(0)
        self._append(_pack(delivery_id, attempt, 0, KIND_DOT, 0, _time(), 0, 0))

    def accepted(self, delivery_id: int, attempt: int) -> None:
        """As `reply`, for the reply that nearly all letters get: 250."""
        self._append(_pack(delivery_id, attempt, 250, KIND_REPLY, _ACCEPTED, _time(), 0, 0))

    def reply(self, delivery_id: int, attempt: int, reply: Reply, reply_class: ReplyClass) -> None:
        """Record what the server said about an attempt whose dot was recorded."""
        subject = detail = 0
        if reply.enhanced is not None and reply_class is not ReplyClass.ACCEPTED:
            subject, detail = map(int, reply.enhanced.split(".")[1:])
        kind = CLASSES.index(reply_class)
        self._append(_pack(delivery_id, attempt, reply.code, KIND_REPLY, kind, _time(), subject, detail))

    def _append(self, body: bytes) -> None:
        start = self._position
        end = start + _SIZE
        if end > self._allocated:  # only after more replies than _RESERVE without a dot between
            self._extend()
        self._map[start:end] = body + _pack_crc(_crc32(body))
        self._position = end

    @property
    def records(self) -> int:
        """Records written so far."""
        return (self._position - HEADER_SIZE) // RECORD.size

    def close(self) -> None:
        """Let go of the lock: whatever was not replied to is now for the sweep to settle."""
        self._map.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.close()


def journals_dir(data_dir: Path) -> Path:
    """The folder of a data directory that holds journals; in compose it lies on a named volume."""
    return data_dir / "journals"


def listed(data_dir: Path, suffix: str) -> list[Path]:
    """The files in that folder that end so (`.journal`, `.settled`); none where there is no folder yet.

    Raises OSError where it may not be looked into: that nothing is seen of a journal does not say that it is gone.
    """
    folder = journals_dir(data_dir)
    try:
        return [path for path in folder.iterdir() if path.suffix == suffix]
    except FileNotFoundError:
        return []


def _header(host: str, boot: str, sender_id: int, created: float) -> bytes:
    body = HEADER.pack(MAGIC, host.encode(), boot.encode(), sender_id, created, 0)[:-4]
    return body + _CRC.pack(zlib.crc32(body))


@dataclass(frozen=True, slots=True)
class Record:
    """One record as read back; `enhanced` is the code's own class with the recorded subject and detail."""

    delivery_id: int
    attempt: int
    kind: int
    code: int
    reply_class: ReplyClass
    at: float
    enhanced: str | None


def unpack(octets: bytes) -> Record | None:
    """The record in these octets, or None when they are torn."""
    delivery_id, attempt, code, kind, reply_class, at, subject, detail, crc = RECORD.unpack(octets)
    if crc != zlib.crc32(octets[:BODY_SIZE]) or kind not in {KIND_DOT, KIND_REPLY} or reply_class >= len(CLASSES):
        return None
    enhanced = f"{code // 100}.{subject}.{detail}" if subject or detail else None
    return Record(delivery_id, attempt, kind, code, CLASSES[reply_class], at, enhanced)
