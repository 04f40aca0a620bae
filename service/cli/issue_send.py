"""Sending an issue: now, at a time, to all readers or to those of a file."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.issue import DryRun, IssueId, Json
from service.cli.output import actor, confirm, print_json, say, zoned_time
from service.cli.rehearsing import changing
from service.domain.errors import InvalidInputError

if TYPE_CHECKING:
    from service.bootstrap import Services

# Whoever names the minute that it is means now.
_THIS_MINUTE = dt.timedelta(minutes=1)


def register(issue: typer.Typer) -> None:
    """Hang the command into the noun it belongs to."""
    issue.command("send")(send)


def send(
    week: IssueId,
    at: Annotated[str | None, typer.Option(help="When, like 2019-06-03T09:00+03:00; left out: now.")] = None,
    rate: Annotated[float | None, typer.Option(help="Mails per second for this mailing.")] = None,
    audience: Annotated[str, typer.Option(help="all, or a file with one address a line.", metavar="all|FILE")] = "all",
    watch: Annotated[bool, typer.Option("--watch", help="Show the progress; exit code 5: it was not sent.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Send an issue to its readers, each once, in the languages they chose. An issue can be sent one time only."""
    from service.bootstrap import services
    from service.cli import mailing as mailing_commands
    from service.cli import mailing_status, watching
    from service.delivery import release
    from service.domain.weeks import Week

    week = str(Week.parse(week))
    if rate is not None:
        release.require_rate(rate, "--rate")
    parts = services()
    when = _instant(at, parts.now()) if at else None
    with parts.database.read() as session:
        release.refuse_second(session, week)
        release.require_sendable(session, week, parts.blocking)
        readers = _audience(parts, audience)
    words = f"{len(readers)} readers of {audience}" if readers is not None else "all readers"
    words += f" at {zoned_time(when)}" if when else ""
    if not dry_run:
        confirm(f"Send issue {week} to {words}?", yes=yes)
    with changing(parts.database, dry_run=dry_run) as session:
        made = release.send(
            session,
            week,
            parts.bell,
            parts.blocking,
            actor=actor(),
            now=parts.now(),
            rate=rate,
            audience=readers,
            at=when,
        )
    if json:
        utc = when.astimezone(dt.UTC).isoformat() if when else None
        print_json({"mailing": None if dry_run else made, "issue": week, "at": utc, "dry_run": dry_run})
    elif dry_run:
        say(f"issue {week} would go to {words}")
    else:
        goes = f" and goes out at {zoned_time(when)}" if when else ""
        say(f"issue {week} is mailing {made}{goes}; watch it with: tydzen mailing status {made} --watch")
    if watch and not dry_run:
        found = watching.watch(parts, made)
        if not json:
            mailing_status.show_status(found)
        mailing_commands.leave(found)


def _instant(text: str, now: dt.datetime) -> dt.datetime | None:
    """The time that was meant, in the zone of this machine unless it names its own; None for this minute."""
    try:
        meant = dt.datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise InvalidInputError(f'time "{text}" is not written like 2019-06-03T09:00+03:00') from None
    if meant <= now - _THIS_MINUTE:
        raise InvalidInputError(f"--at {zoned_time(meant)} is past; leave it out to send now")
    return meant if meant > now else None


def _audience(parts: Services, audience: str) -> list[bytes] | None:
    """The subscribers whose addresses stand in the file, `-` being stdin; None for all."""
    from service.store import subscribers

    if audience == "all":
        return None
    try:
        text = sys.stdin.read() if audience == "-" else Path(audience).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"audience {audience} cannot be read ({type(error).__name__})") from None
    lines = [line.strip() for line in text.splitlines()]
    chosen: list[bytes] = []
    with parts.database.read() as session:
        for number, line in enumerate(lines, start=1):
            if not line or line.startswith("#"):
                continue
            found = subscribers.find(session, line)
            if found is None:
                raise InvalidInputError(f"{audience}:{number}: no subscriber has this address; nothing was sent")
            chosen.append(found.id)
    if not chosen:
        raise InvalidInputError(f"audience {audience} names nobody")
    return chosen
