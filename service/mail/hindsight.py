"""Reading a journal from its end, in parts: the last word on each attempt comes first, whatever the file's size."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.domain.errors import ConfigurationError
from service.mail.autopsy import header_of
from service.mail.journal import HEADER_SIZE, KIND_REPLY, RECORD, Record, journals_dir, listed, unpack

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
        """The records in parts, newest first; within a part, one for each delivery. Errors as those of `journals`."""
        with _open_to_us(self.path):
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

    def reopen(self) -> None:
        """Have it settled once more. Errors as those of `journals`."""
        with _open_to_us(self.path):
            self.path.rename(self.path.with_suffix(".journal"))


def replied(record: Record) -> bool:
    """Whether the server's word is on record."""
    return record.kind == KIND_REPLY


def journals(data_dir: Path, *, since: dt.datetime | None) -> Iterator[Past]:
    """The readable journals of a data directory, oldest first: the unsettled ones, and the settled written `since`.

    Raises ConfigurationError where one of them may not be read, or nothing may be put into their folder: whoever went
    on without what it knows could mail somebody twice.
    """
    _require_folder(journals_dir(data_dir))
    with _open_to_us(journals_dir(data_dir)):
        paths = listed(data_dir, ".journal")
        if since is not None:
            paths += listed(data_dir, ".settled")
    for path in sorted(paths, key=lambda path: path.name.partition("-")[2]):
        try:
            with _open_to_us(path):
                old = path.suffix == ".settled" and since is not None and path.stat().st_mtime < since.timestamp()
                header = None if old else header_of(path)
        except FileNotFoundError:
            continue  # settled or removed since it was listed
        if header is not None:
            yield Past(path, header.host, header.boot, header.sender)


def closed(data_dir: Path) -> list[Path]:
    """What this process may not both read and write of the journals, settled ones too; or their folder alone."""
    folder = journals_dir(data_dir)
    if folder.is_dir() and not _may(folder, os.R_OK | os.W_OK | os.X_OK):
        return [folder]
    paths = listed(data_dir, ".journal") + listed(data_dir, ".settled")
    # One that was settled or removed meanwhile is no trouble.
    return sorted(path for path in paths if not _may(path, os.R_OK | os.W_OK) and path.exists())


def how_to_open(path: Path) -> str:
    """The command that gives what was copied by another user to the one whose data directory it is in."""
    folder = path if path.is_dir() else path.parent
    return f"chown -R --reference={folder.parent.absolute()} {folder.absolute()}"


def _may(path: Path, what: int) -> bool:
    return os.access(path, what, effective_ids=True)


def _require_folder(folder: Path) -> None:
    if folder.is_dir() and not _may(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _closed(folder, "may not be read and written")


@contextmanager
def _open_to_us(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _closed(path, error.strerror or type(error).__name__) from None


def _closed(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path}: {why}; nothing is sent before all journals can be read. If it was copied by another user, run as "
        f"root: {how_to_open(path)}"
    )
