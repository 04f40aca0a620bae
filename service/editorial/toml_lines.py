"""Which line of a TOML file a key stands on: `tomllib` tells that for errors of syntax only."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = " \t"


class TomlLines:
    """The lines of the keys, tables and list items of a text that `tomllib` has accepted."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [at for at, letter in enumerate(text) if letter == "\n"]
        self._lines: dict[Path, int] = {(): 1}
        self._counts: dict[Path, int] = {}
        self._scan()

    def line(self, path: Sequence[str | int]) -> int:
        """The line where `path` is set, or the nearest table or key around it."""
        known = tuple(path)
        while known not in self._lines:
            known = known[:-1]
        return self._lines[known]

    def _scan(self) -> None:
        table: Path = ()
        while self._skip_blank():
            if self._text.startswith("[[", self._at):
                table = self._header(2)
            elif self._text[self._at] == "[":
                table = self._header(1)
            else:
                self._pair(table)

    def _skip_blank(self) -> bool:
        """Go to the next statement; False at the end."""
        while self._at < len(self._text):
            if self._text[self._at] == "#":
                self._skip_line()
            elif self._text[self._at] in " \t\r\n":
                self._at += 1
            else:
                return True
        return False

    def _skip_line(self) -> None:
        end = self._text.find("\n", self._at)
        self._at = len(self._text) if end < 0 else end

    def _header(self, brackets: int) -> Path:
        line = self._line_here()
        self._at += brackets
        names = self._key()
        self._at += brackets
        path = (*self._resolved(names[:-1]), names[-1])
        if brackets == 2:
            number = self._counts.get(path, 0)
            self._counts[path] = number + 1
            self._lines.setdefault(path, line)
            path = (*path, number)
        elif path in self._counts:
            path = (*path, self._counts[path] - 1)
        self._lines.setdefault(path, line)
        return path

    def _resolved(self, names: Sequence[str]) -> Path:
        """The path of a table header, where `[a.b]` after `[[a]]` means the last `a`."""
        path: Path = ()
        for name in names:
            path = (*path, name)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line_here()
        path = table + tuple(self._key())
        for end in range(len(table) + 1, len(path) + 1):
            self._lines.setdefault(path[:end], line)
        self._at += 1  # the equals sign
        self._value(path)

    def _line_here(self) -> int:
        return bisect_left(self._ends, self._at) + 1

    def _key(self) -> list[str]:
        """A dotted key; stops at `=` or `]`."""
        names: list[str] = []
        while True:
            self._skip_space()
            if self._text[self._at] in "\"'":
                names.append(self._string())
            else:
                bare = _BARE.match(self._text, self._at)
                assert bare is not None, "tomllib accepted the text"
                names.append(bare[0])
                self._at = bare.end()
            self._skip_space()
            if self._text[self._at] != ".":
                return names
            self._at += 1

    def _skip_space(self) -> None:
        while self._text[self._at] in _SPACE:
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip_space()
        first = self._text[self._at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            while self._at < len(self._text) and self._text[self._at] not in ",]}#\n":
                self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        number = 0
        while self._skip_blank() and self._text[self._at] != "]":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._lines.setdefault((*path, number), self._line_here())
            self._value((*path, number))
            number += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._skip_blank() and self._text[self._at] != "}":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._pair(path)
        self._at += 1

    def _string(self) -> str:
        """Go past a string of any of the four kinds; its text where no escape needs reading."""
        quote = self._text[self._at]
        fence = quote * 3 if self._text.startswith(quote * 3, self._at) else quote
        start = self._at = self._at + len(fence)
        while not self._text.startswith(fence, self._at):
            self._at += 2 if quote == '"' and self._text[self._at] == "\\" else 1
        if len(fence) == 3:
            # Up to two quotes may stand right before the closing three.
            while self._text.startswith(quote, self._at + 3):
                self._at += 1
        content = self._text[start : self._at]
        self._at += len(fence)
        return content
