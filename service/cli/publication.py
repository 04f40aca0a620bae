"""Commands about the publication: its languages, sections and words, from publication.toml."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service.cli.output import actor, print_fields, print_json, say

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]

publication = typer.Typer(no_args_is_help=True, help="The weekly itself: languages, sections, words, sender.")


def register(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(publication, name="publication")


@publication.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="publication.toml, or the folder that holds it.")],
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Make publication.toml what every edition, page and mail is made from."""
    from service.bootstrap import services
    from service.editorial.publishing import import_publication

    parts = services()
    with parts.database.begin() as session:
        report = import_publication(session, path, actor=actor(), now=parts.now(), dry_run=dry_run)
    for warning in report.warnings:
        say(f"note: {warning}")
    if json:
        print_json({**asdict(report), "dry_run": dry_run})
    elif not report.changed:
        say(f"publication {report.key}: nothing changed")
    elif report.new:
        say(f"publication {report.key} {'would be' if dry_run else 'is'} imported")
    else:
        say(f"publication {report.key}: {', '.join(report.changed)} {'would change' if dry_run else 'changed'}")


@publication.command("show")
def show(json: Json = False) -> None:
    """What is published: languages, sections, sender. Operators' addresses are counted, not shown."""
    from service.bootstrap import services
    from service.store import publication as store

    with services().database.read() as session:
        found = store.load(session)
    fields = {
        "key": found.key,
        "titles": dict(found.titles),
        "languages": list(found.languages),
        "sections": [section.key for section in found.sections],
        "timezone": found.timezone,
        "base_url": found.base_url,
        "list_id": found.list_id,
        "sender": found.sender,
        "reply_to": found.reply_to,
        "operators": len(found.operators),
        "postal_address": found.postal_address,
    }
    if json:
        print_json(fields)
        return
    words = {name: ", ".join(value) if isinstance(value, list) else value for name, value in fields.items()}
    print_fields({**words, "titles": " · ".join(found.titles.values())})
