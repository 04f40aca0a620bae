"""TOML files that people write: typed reading that notes every problem with its line and goes on."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.domain.errors import InvalidInputError
from service.editorial import plain_file, toml_lines
from service.editorial.problems import Problems
from service.render.markdown import check_words

_SYNTAX = re.compile(r"(?P<what>.*?) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)
_OF_SEVERAL_LINES = frozenset({"postal_address"})


def read(path: Path, problems: Problems) -> Table | None:
    """The top table of the file; None, and the problem noted, where it cannot be read at all."""
    text = plain_file.text(path, problems)
    if text is None:
        return None
    try:
        return Table(path, tomllib.loads(text), toml_lines.TomlLines(text), (), problems)
    except tomllib.TOMLDecodeError as error:
        match = _SYNTAX.match(str(error))
        line = int(match["line"]) if match and match["line"] else text.count("\n") + 1
        problems.add(path, line, f"is not TOML: {(match['what'] if match else str(error)).lower()}")
    except RecursionError:
        problems.add(path, 0, "is nested too deeply; flatten it")
    return None


class Table:
    """One table of a file. What is missing or wrong is noted, and something empty of the right type stands for it."""

    def __init__(
        self,
        file: Path,
        values: Mapping[str, Any],
        lines: toml_lines.TomlLines,
        path: toml_lines.Path,
        problems: Problems,
    ) -> None:
        self._file = file
        self._values = values
        self._lines = lines
        self._path = path
        self._problems = problems

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def keys(self) -> list[str]:
        """The keys, in the file's order."""
        return list(self._values)

    def line(self, *keys: str | int) -> int:
        """The line of a key, or of this table."""
        return self._lines.line((*self._path, *keys))

    def problem(self, message: str, *keys: str | int) -> None:
        """Note a problem at a key, or at this table."""
        self._problems.add(self._file, self.line(*keys), message)

    def only(self, *known: str) -> None:
        """Note each key that is none of these."""
        for key in self._values:
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                mend = f"do you mean {close[0]}?" if close else f"there are {', '.join(known)}"
                self.problem(f'"{key}" is not known here; {mend}', key)

    def string(self, key: str, mend: str = "add it") -> str:
        """The text of a key that must be there."""
        if key not in self._values:
            self.problem(f"{key} is missing; {mend}")
            return ""
        return self._string(key)

    def optional(self, key: str) -> str | None:
        """The text of a key that may be left out."""
        return self._string(key) if key in self._values else None

    def strings(self, key: str) -> tuple[str, ...]:
        """The texts of a list that may be left out."""
        value = self._values.get(key, [])
        if not isinstance(value, list):
            self.problem(f'{key} is no list; write {key} = ["…", "…"]', key)
            return ()
        return tuple(self._checked(item, key, number) for number, item in enumerate(value))

    def table(self, key: str) -> Table:
        """The table of a key; an empty one where it is left out."""
        value = self._values.get(key, {})
        if not isinstance(value, dict):
            self.problem(f"{key} is no table; write [{key}]", key)
            value = {}
        return self._below(value, key)

    def tables(self, key: str) -> list[Table]:
        """The tables written as `[[key]]`."""
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.problem(f"{key} is no list of tables; write [[{key}]] above each", key)
            return []
        return [self._below(item, key, number) for number, item in enumerate(value)]

    def words(self, key: str, languages: Sequence[str], *, complete: bool = True) -> dict[str, str]:
        """The texts by language, in the order of `languages`; all of them where `complete`."""
        table = self.table(key)
        for language in table.keys:
            if language not in languages:
                hint = " (Belarusian is be)" if language == "by" else ""
                table.problem(f'language "{language}" is not one of {", ".join(languages)}{hint}', language)
        missing = [language for language in languages if language not in table]
        if complete and missing:
            self.problem(f"{key} has no words in {', '.join(missing)}; add them", *([key] if key in self else []))
        return {language: table.string(language) for language in languages if language in table}

    def parsed(self, key: str, read: Callable[[str], Any]) -> Any:
        """What `read` makes of a text that may be left out; an InvalidInputError of it is noted."""
        text = self.optional(key)
        if not text:
            return None
        try:
            return read(text)
        except InvalidInputError as error:
            self.problem(str(error), key)
            return None

    def _below(self, values: Mapping[str, Any], *keys: str | int) -> Table:
        return Table(self._file, values, self._lines, (*self._path, *keys), self._problems)

    def _string(self, key: str) -> str:
        return self._checked(self._values[key], key)

    def _checked(self, value: object, *keys: str | int) -> str:
        name = str(keys[0])
        if not isinstance(value, str):
            self.problem(f"{name} is no text; write it in quotes", *keys)
            return ""
        if not value.strip():
            self.problem(f"{name} is empty; write something or take the line out", *keys)
        problem = problem_of_line(value.replace("\n", " ") if name in _OF_SEVERAL_LINES else value, name)
        if problem:
            self.problem(problem, *keys)
        return value


def problem_of_line(value: str, name: str) -> str | None:
    """Why `value` cannot stand in a headline or a mail header, which `name` says; None where it can."""
    if "\n" in value:
        return f"{name} holds a line break; write it on one line"
    if "=?" in value:
        # Python 3.11 decodes an encoded word in a subject, and out of it may come a header of its own.
        return f'{name} holds "=?", which mail headers give a meaning of its own; write it another way'
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        return f"{name} holds half a character (a lone surrogate); type it anew"
    return next((finding.message for finding in check_words(value, name)), None)
