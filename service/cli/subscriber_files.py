"""The two commands that carry all readers: import and export."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.output import Exit, actor, confirm, messages, print_json, print_json_lines, say
from service.domain.errors import InvalidInputError
from service.domain.subscriber import SubscriberStatus

if TYPE_CHECKING:
    from service.audience.importing import ImportReport

_SHOWN_ERRORS = 20


def register(subscriber: typer.Typer) -> None:
    """Hang these commands beside those about one reader."""
    subscriber.command("import")(import_)
    subscriber.command("export")(export)


def import_(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.csv", help="email,languages[,status][,consent]; or an export of listmonk, Mailchimp, Mailman."
        ),
    ],
    languages: Annotated[
        str | None, typer.Option("--languages", metavar="be,ru", help="For lines that say no languages.")
    ] = None,
    consent: Annotated[str | None, typer.Option(help="Where consent comes from, for lines that do not say.")] = None,
    status: Annotated[
        SubscriberStatus, typer.Option(help="What lines that say nothing of it mean; for lists of who has left.")
    ] = SubscriberStatus.ACTIVE,
    errors: Annotated[Path | None, typer.Option(metavar="FILE", help="Write line and reason of each bad line.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> None:
    """Add the readers of a file. Whoever is suppressed or has left stays away; who is known keeps their languages."""
    from service.audience.importing import Listener, import_file
    from service.audience.said import Said
    from service.bootstrap import services

    parts = services()
    with _bad_lines(errors) as invalid, _progress(path) as progress:
        report = import_file(
            parts.database,
            parts.departures,
            path,
            languages=languages,
            consent=consent,
            standing=Said(status.value),
            actor=actor(),
            now=parts.now(),
            dry_run=dry_run,
            listener=Listener(invalid, progress),
        )
    if json:
        print_json({**asdict(report), "dry_run": dry_run})
    _tell(report, dry_run=dry_run)
    if report.invalid:
        raise typer.Exit(Exit.PARTIAL)


def _tell(report: ImportReport, *, dry_run: bool) -> None:
    counts = ("new", "known", "suppressed", "unsubscribed", "unconfirmed", "invalid")
    said = ", ".join(f"{getattr(report, name):,} {name}" for name in counts)
    lines = "1 line" if report.lines == 1 else f"{report.lines:,} lines"
    say(f"{lines}: {said}{'; a dry run, nothing was stored' if dry_run else ''}")
    if report.left:
        say(f"{report.left:,} who were active here have left by the word of the file")
    if report.believed is not None:
        say(
            "note: the column status before Mailchimp's own columns is a field of the audience; of its words only "
            "those of departure (unsubscribed, bounced, cleaned, complained, blocklisted, disabled …) were believed, "
            f"in {report.believed:,} {'line' if report.believed == 1 else 'lines'}"
        )
    if report.origin == "listmonk":
        say("note: a listmonk export does not say who left a list; export only confirmed subscriptions")


@contextmanager
def _bad_lines(path: Path | None) -> Iterator[Callable[[int, str], None]]:
    """Takes each invalid line: the first on stderr, all into the file."""
    count = 0
    try:
        file = path.open("w", encoding="utf-8", newline="") if path else None
    except OSError as error:
        raise InvalidInputError(f"the file of --errors cannot be written ({type(error).__name__})") from None
    writer = csv.writer(file) if file else None
    if writer:
        writer.writerow(["line", "reason"])

    def note(line: int, reason: str) -> None:
        nonlocal count
        count += 1
        if count <= _SHOWN_ERRORS:
            say(f"line {line}: {reason}")
        if writer:
            writer.writerow([line, reason])

    try:
        yield note
    finally:
        if file:
            file.close()
        if count > _SHOWN_ERRORS:
            say(f"and {count - _SHOWN_ERRORS:,} more invalid lines{'' if file else '; to see all: --errors FILE'}")


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty() or not path.is_file():
        yield lambda _octets: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("importing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages, transient=True) as progress:
        task = progress.add_task("import", total=path.stat().st_size)
        yield lambda octets: progress.update(task, completed=octets)


def export(
    status: Annotated[SubscriberStatus | None, typer.Option(help="Only readers of this status.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of CSV.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Print every reader with the address, as CSV. The audit log notes who asked."""
    from service.audience import exporting
    from service.bootstrap import services

    confirm("Print all readers' addresses, in plain?", yes=yes)
    parts = services()
    with parts.database.begin() as session:
        exporting.announce(session, status=status, actor=actor(), now=parts.now())
    with parts.database.read() as session:
        rows = exporting.exported(session, status)
        if json:
            print_json_lines(rows)
            return
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(exporting.COLUMNS)
        writer.writerows(exporting.guarded(row) for row in rows)
