"""A relay's log files as lines: plain or gzipped, one after the other, `-` for stdin."""

from __future__ import annotations

import contextlib
import gzip
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from service.domain.errors import InvalidInputError
from service.domain.maillog import MailLog

if TYPE_CHECKING:
    from io import BufferedReader

STDIN = "-"
_GZIP = b"\x1f\x8b"
# A line without an end must not fill memory.
_PIECE = 1 << 16


def read_into(log: MailLog, names: Sequence[str]) -> None:
    """Read every file, twice: what one of them says of a letter may come before the file that names it.

    Stdin can be read one time only, and is read first. Raises InvalidInputError that names the file and the reason.
    """
    for name in names:
        _read(log, name)
    for name in names:
        if name != STDIN and Path(name).is_file():
            _read(log, name, again=True)


def _read(log: MailLog, name: str, *, again: bool = False) -> None:
    shown = "stdin" if name == STDIN else name
    before = log.coverage()
    try:
        with contextlib.ExitStack() as stack:
            file = sys.stdin.buffer if name == STDIN else stack.enter_context(Path(name).open("rb"))
            unpacked: BinaryIO = file
            # Both are buffered readers: a peek takes nothing away, which from a pipe nobody could give back.
            if cast("BufferedReader", file).peek(2)[:2] == _GZIP:
                unpacked = cast("BinaryIO", stack.enter_context(gzip.open(file)))
            log.read(_lines(unpacked), again=again)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InvalidInputError(f"{shown}: the log cannot be read ({reason})") from None
    after = log.coverage()
    read, unreadable = after.lines - before.lines, after.unreadable - before.unreadable
    if read and read == unreadable:
        raise InvalidInputError(f"{shown}: no line of it has a time: it is no Postfix log; unpack it first")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_PIECE):
        yield line
