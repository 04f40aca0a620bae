"""How commands speak: data on stdout, messages on stderr, one exit code per family of errors."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.domain.errors import (
    CheckFailedError,
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    TydzenError,
    UnavailableError,
)


class Exit(IntEnum):
    """What a command's exit code says."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    CHECK_FAILED = 3
    NOT_FOUND = 4
    CONFLICT = 5
    PARTIAL = 6
    TEMPORARY = 7
    INTERRUPTED = 130


_EXITS: tuple[tuple[type[TydzenError], Exit], ...] = (
    (InvalidInputError, Exit.USAGE),
    (CheckFailedError, Exit.CHECK_FAILED),
    (NotFoundError, Exit.NOT_FOUND),
    (ConflictError, Exit.CONFLICT),
    (UnavailableError, Exit.TEMPORARY),
    (ConfigurationError, Exit.FAILURE),
)

# No emoji: a relay called mailbox:25 is no picture of one.
messages = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
# Off a terminal nothing is known of the width, so nothing is folded: programs read these lines.
data = Console(highlight=False, soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else 400)


def exit_code(error: TydzenError) -> Exit:
    """The exit code of that error's family."""
    return next((code for family, code in _EXITS if isinstance(error, family)), Exit.FAILURE)


def say(message: str) -> None:
    """A message for the person, on stderr."""
    messages.print(message, markup=False)


def amount(value: float) -> str:
    """A count or a rate: all of its digits, those of a whole number in groups."""
    return f"{int(value):,}" if value == int(value) else f"{value:.10g}"


def local_time(instant: dt.datetime, *, seconds: bool = False) -> str:
    """Date and time as this machine's clock shows them."""
    return instant.astimezone().strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def zoned_time(instant: dt.datetime) -> str:
    """As `local_time`, with the zone, like 2019-06-03 09:00+03:00: for a time that is yet to come."""
    return instant.astimezone().isoformat(" ", "minutes")


def fail(message: str, code: Exit) -> NoReturn:
    """Say why and leave with `code`."""
    say(message)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """One JSON object on one line of stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def print_json_lines(values: Iterable[Any]) -> None:
    """One JSON object a line, as they come."""
    for value in values:
        print_json(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """A plain table on stdout; numbers to the right."""
    rows = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    data.print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Names and values in two columns."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name, "" if value is None else escape(str(value)))
    data.print(table)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be taken back; `--yes` answers, and is needed where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} Nobody is there to ask: say --yes.", Exit.USAGE)
    if not typer.confirm(question, err=True):
        fail("Nothing was done.", Exit.FAILURE)


def actor() -> str:
    """Who the audit log names: the system user of this command."""
    import getpass

    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"
