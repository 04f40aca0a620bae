"""A CSV file line by line, so that a broken line costs itself alone and memory does not grow with the file."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from service.domain.errors import InvalidInputError

LONGEST_LINE = 64 * 1024
# A quoted cell may hold line ends (RFC 4180, 2.6): a name of two lines does, more than this is a forgotten quote.
_LINES_OF_A_CELL = 10


@dataclass(frozen=True, slots=True)
class Record:
    """The cells that begin on line `number`."""

    number: int
    cells: list[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Broken:
    """Line `number` cannot be used; the reason never repeats what is in it."""

    number: int
    reason: str


class CsvLines:
    """Reads the header, then record after record; `octets` tells how far it is.

    Raises InvalidInputError for a file without a header that can be read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ahead: deque[tuple[int, str | None, str]] = deque()
        self._number = 0
        self.octets = 0
        line = self._first()
        # Spreadsheets of many countries separate by semicolons and call it CSV.
        self.delimiter = next((mark for mark in ",;\t" if mark in line), ",")
        header = self._cells(line)
        if header is None:
            raise InvalidInputError("the header cannot be read: its quotes do not match")
        self.header = header

    def _first(self) -> str:
        while (found := self._next()) is not None:
            _, line, reason = found
            if line is None:
                raise InvalidInputError(f"the header cannot be read: {reason}")
            if "\r" in line:
                raise InvalidInputError("the lines end in CR alone; save the file with LF or CRLF")
            if line.strip():
                return line
        raise InvalidInputError("the file is empty; its first line names the columns: email,languages")

    def __iter__(self) -> Iterator[Record | Broken]:
        """Each record or broken line; empty lines are passed over."""
        while (found := self._next()) is not None:
            number, line, reason = found
            if line is None:
                yield Broken(number, reason)
            elif line and not line.isspace():
                yield self._record(number, line)

    def _next(self) -> tuple[int, str | None, str] | None:
        """Number, text (None if it cannot be read) and reason of the next line; None at the end."""
        if self._ahead:
            return self._ahead.popleft()
        raw = self._file.readline(LONGEST_LINE + 1)
        if not raw:
            return None
        self.octets += len(raw)
        self._number += 1
        if len(raw) > LONGEST_LINE:
            self._pass_over(raw)
            return self._number, None, f"the line is longer than {LONGEST_LINE // 1024} KB"
        if b"\0" in raw:
            return self._number, None, "the line holds a NUL character"
        try:
            return self._number, raw.decode("utf-8").rstrip("\r\n"), ""
        except UnicodeDecodeError:
            return self._number, None, "the line is not UTF-8"

    def _pass_over(self, raw: bytes) -> None:
        while raw and not raw.endswith(b"\n"):
            raw = self._file.readline(LONGEST_LINE)
            self.octets += len(raw)

    def _record(self, number: int, line: str) -> Record | Broken:
        if '"' not in line:
            return Record(number, line.split(self.delimiter))
        cells = self._cells(line)
        if cells is None and line.count('"') % 2:
            cells = self._continued(line)
        return Broken(number, "the quotes do not match") if cells is None else Record(number, cells)

    def _cells(self, text: str) -> list[str] | None:
        try:
            rows = list(csv.reader(text.splitlines(keepends=True), delimiter=self.delimiter, strict=True))
        except csv.Error:
            return None
        return rows[0] if len(rows) == 1 else None

    def _continued(self, line: str) -> list[str] | None:
        """The cells of a record that goes on over the next lines; where it does not, these are given back.

        A line with an @ is a reader's own: it is never taken for the rest of somebody's forgotten quote.
        """
        taken: list[tuple[int, str | None, str]] = []
        while len(taken) < _LINES_OF_A_CELL and (found := self._next()) is not None:
            taken.append(found)
            text = found[1]
            if text is None or "@" in text:
                break
            line += "\n" + text
            if text.count('"') % 2:
                cells = self._cells(line)
                if cells is not None:
                    return cells
        self._ahead.extendleft(reversed(taken))
        return None
