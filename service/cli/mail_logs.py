"""A relay's log files as lines: plain or gzipped, one after the other, `-` for stdin."""

from __future__ import annotations

import contextlib
import gzip
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from service.domain.errors import InvalidInputError
from service.domain.maillog import MailLog

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
    try:
        if name == STDIN:
            log.read(_lines(sys.stdin.buffer))
            return
        with Path(name).open("rb") as file, contextlib.ExitStack() as stack:
            unpacked: BinaryIO = file
            if file.peek(2)[:2] == _GZIP:
                unpacked = cast("BinaryIO", stack.enter_context(gzip.open(file)))
            log.read(_lines(unpacked), again=again)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InvalidInputError(f"{name}: the log cannot be read ({reason})") from None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_PIECE):
        yield line
