"""A CSV file line by line, so that a broken line costs itself alone and memory does not grow with the file."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from service.domain.errors import InvalidInputError

LONGEST_LINE = 64 * 1024
# An audience of Mailchimp has up to 80 fields of its own, its export some 25 more.
MOST_COLUMNS = 200
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


@dataclass(frozen=True, slots=True)
class Line:
    """Line `number` of a file, without its end; `text` is None where `reason` says why it cannot be read."""

    number: int
    text: str | None = field(repr=False)
    reason: str = ""


class Lines:
    """Reads line after line, none of them too long for memory; `octets` tells how far it is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ahead: deque[Line] = deque()
        self._number = 0
        self.octets = 0

    def first(self) -> Line | None:
        """The first line that is not blank, which stays to be read; None where there is none."""
        while (line := self.next()) is not None:
            if line.text is None or line.text.strip():
                self.put_back([line])
                return line
        return None

    def put_back(self, lines: Sequence[Line]) -> None:
        """Have them read again, in their order."""
        self._ahead.extendleft(reversed(lines))

    def next(self) -> Line | None:
        """The next line; None at the end."""
        if self._ahead:
            return self._ahead.popleft()
        raw = self._file.readline(LONGEST_LINE + 1)
        if not raw:
            return None
        self.octets += len(raw)
        self._number += 1
        if len(raw) > LONGEST_LINE:
            self._pass_over(raw)
            return Line(self._number, None, f"the line is longer than {LONGEST_LINE // 1024} KB")
        if b"\0" in raw:
            return Line(self._number, None, "the line holds a NUL character")
        try:
            return Line(self._number, raw.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError:
            return Line(self._number, None, "the line is not UTF-8")

    def _pass_over(self, raw: bytes) -> None:
        while raw and not raw.endswith(b"\n"):
            raw = self._file.readline(LONGEST_LINE)
            self.octets += len(raw)


class CsvLines:
    """Reads the header, then record after record.

    Raises InvalidInputError for a file without a header that can be read, or with too many columns.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        line = self._header_line()
        # Spreadsheets of many countries separate by semicolons and call it CSV.
        self.delimiter = next((mark for mark in ",;\t" if mark in line), ",")
        header = self._cells(line)
        if header is None:
            raise InvalidInputError("the header cannot be read: its quotes do not match")
        if len(header) > MOST_COLUMNS:
            raise InvalidInputError(
                f"the header names {len(header)} columns; at most {MOST_COLUMNS} are read, so leave others out"
            )
        self.header = header

    def _header_line(self) -> str:
        if self._lines.first() is None or (line := self._lines.next()) is None:
            raise InvalidInputError("the file is empty; its first line names the columns: email,languages")
        if line.text is None:
            raise InvalidInputError(f"the header cannot be read: {line.reason}")
        if "\r" in line.text:
            raise InvalidInputError("the lines end in CR alone; save the file with LF or CRLF")
        return line.text

    def __iter__(self) -> Iterator[Record | Broken]:
        """Each record or broken line; empty lines are passed over."""
        while (line := self._lines.next()) is not None:
            if line.text is None:
                yield Broken(line.number, line.reason)
            elif line.text and not line.text.isspace():
                yield self._record(line.number, line.text)

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
        taken: list[Line] = []
        while len(taken) < _LINES_OF_A_CELL and (found := self._lines.next()) is not None:
            taken.append(found)
            text = found.text
            if text is None or "@" in text:
                break
            line += "\n" + text
            if text.count('"') % 2:
                cells = self._cells(line)
                if cells is not None:
                    return cells
        self._lines.put_back(taken)
        return None
