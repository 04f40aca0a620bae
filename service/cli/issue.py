"""Commands about issues: folders in and out, what is there, checks, previews, approval. Sending is in issue_send.py."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service.cli.output import actor, print_json, say

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
IssueId = Annotated[str, typer.Argument(metavar="ID", help="The issue's ISO week, such as 2019-W22.")]

issue = typer.Typer(no_args_is_help=True, help="Issues: one week's articles in all languages.")


def register(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(issue, name="issue")


@issue.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The issue's folder, named like 2019-W22.")],
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Store the issue in a folder: all of it, or nothing where one file is wrong. Safe to repeat."""
    from service.bootstrap import services
    from service.editorial.importing import import_issue

    parts = services()
    with parts.database.begin() as session:
        report = import_issue(session, folder, actor=actor(), now=parts.clock.now(), dry_run=dry_run)
    if json:
        print_json({**asdict(report), "week": str(report.week), "unchanged": report.unchanged, "dry_run": dry_run})
        return
    if report.unchanged:
        say(f"issue {report.week}: nothing changed")
    for done, names in (("added", report.added), ("changed", report.changed), ("removed", report.removed)):
        if names:
            say(f"issue {report.week}: {'would be ' if dry_run else ''}{done}: {', '.join(names)}")
    if report.stale:
        say(f"older than their source: {', '.join(report.stale)}")
