"""`tydzen explain`: what one reader got for one issue, and why."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from service.cli.output import print_fields, print_json, print_table
from service.domain.errors import NotFoundError


def register(app: typer.Typer) -> None:
    """Hang the command into the tree."""
    app.command("explain")(explain)


def explain(
    address: Annotated[str, typer.Argument(help="The reader's address; - reads it from stdin.", metavar="ADDRESS")],
    week: Annotated[str, typer.Argument(help="The issue's ISO week, such as 2019-W22.", metavar="ID")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What this reader got for this issue, which language and why, which batch, what the server said."""
    from service.bootstrap import services
    from service.delivery import explain as use_case
    from service.store import subscribers

    parts = services()
    wanted = sys.stdin.readline().strip() if address == "-" else address
    with parts.database.read() as session:
        reader = subscribers.find(session, wanted)
        if reader is None:
            raise NotFoundError("no subscriber has this address; erased readers leave no trace that could be explained")
        found = use_case.explain(session, week, reader.id, reader.status, reader.chain)
    entry = found.entry
    fields = {
        "reader": reader.public_id,
        "issue": found.week,
        "mailing": found.mailing.id if found.mailing else None,
        "state": entry.state.label if entry else None,
        "edition": entry.chain if entry else None,
        "batch": entry.batch if entry else None,
        "attempts": entry.attempts if entry else None,
        "at": entry.at.isoformat() if entry and entry.at else None,
        "next try": entry.due_at.isoformat() if entry and entry.due_at else None,
        "why": found.why,
    }
    if json:
        named = {name.replace(" ", "_"): value for name, value in fields.items()}
        tries = [{**asdict(attempt), "at": attempt.at.isoformat()} for attempt in found.attempts]
        print_json({**named, "articles": {one.slug: one.language for one in found.articles}, "failures": tries})
        return
    print_fields({name: value for name, value in fields.items() if value is not None})
    print_table(["article", "language"], [[one.slug, one.language or "(left out)"] for one in found.articles])
    if found.attempts:
        rows = [[one.number, one.at.isoformat(), one.outcome, one.code, one.reply] for one in found.attempts]
        print_table(["try", "at", "outcome", "code", "reply"], rows)
