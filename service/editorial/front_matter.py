"""The head of a text's file: simple `key: value` lines between two lines of `---`, and the Markdown below them.

A value stands for itself, colons and quotes inside it too. One that begins with a quote, a space or a mark that other
tools give a meaning is written in double quotes, escaped as in JSON; both kinds of YAML's quotes are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

FENCE = "---"
_LINE = re.compile(r"(?P<key>[A-Za-z_][A-Za-z0-9_-]*)[ \t]*:(?:[ \t]+(?P<value>.*))?")
_SINGLE_QUOTED = re.compile(r"'(?:[^']|'')*'")
_NOT_PLAIN = ("'", '"', "#", "|", ">", "&", "*", "!", "%", "@", "`", "[", "{", "- ", "? ")
_BLOCK_SCALAR = re.compile(r"[|>][+-]?\d?")


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """A file taken apart. `lines` and `body_line` say where things stand; problems are pairs of line and message."""

    values: Mapping[str, str]
    lines: Mapping[str, int]
    body: str
    body_line: int
    problems: tuple[tuple[int, str], ...]


def split(text: str) -> FrontMatter:
    """The head and the body of a file whose lines end with a line feed."""
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    end = next((number for number in range(first + 1, len(lines)) if lines[number].rstrip() == FENCE), None)
    if lines[first].rstrip() != FENCE or end is None:
        mend = "begin with a line ---, then title: … and lead: …, then a line ---"
        what = "has no front matter" if lines[first].rstrip() != FENCE else "has front matter without its second ---"
        return FrontMatter({}, {}, "", 1, ((first + 1, f"{what}; {mend}"),))
    values: dict[str, str] = {}
    places: dict[str, int] = {}
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(lines[first + 1 : end], start=first + 2):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            problems.append((number, 'is no "key: value" line; a value stays on one line'))
        elif match["key"] in values:
            problems.append((number, f"{match['key']} stands there twice; take one out"))
        else:
            places[match["key"]] = number
            values[match["key"]] = _read(match["value"] or "", number, problems)
    body_line, body = _body(lines, end + 1)
    return FrontMatter(values, places, body, body_line, tuple(problems))


def _body(lines: list[str], start: int) -> tuple[int, str]:
    """The body without the empty lines around it, and the line that it begins on."""
    while start < len(lines) and not lines[start].strip():
        start += 1
    return start + 1, canonical_body("\n".join(lines[start:]))


def canonical_body(body: str) -> str:
    """`body` as a file carries it: line feeds, no empty lines before it and no space after it."""
    lines = body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    return "\n".join(lines[first:]).rstrip()


def _read(raw: str, line: int, problems: list[tuple[int, str]]) -> str:
    value = raw.strip()
    if _BLOCK_SCALAR.fullmatch(value):
        problems.append((line, "a value of several lines is not read; write it on one line after the key"))
    if len(value) >= 2 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value, strict=False))
        except ValueError:
            return value
    if _SINGLE_QUOTED.fullmatch(value):
        return value[1:-1].replace("''", "'")
    return value


def join(values: Mapping[str, str], body: str) -> str:
    """The file for these values and this body; `split` reads the same from it."""
    head = [f"{key}: {_written(value)}".rstrip() for key, value in values.items()]
    return "\n".join([FENCE, *head, FENCE, "", body]).rstrip("\n") + "\n"


def _written(value: str) -> str:
    plain = value == value.strip() and value.isprintable() and not value.startswith(_NOT_PLAIN)
    return value if plain else json.dumps(value, ensure_ascii=False)
