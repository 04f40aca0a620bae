"""`tydzen retention run`: forget at once what is due to be forgotten."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from service.cli.output import print_json, say

retention = typer.Typer(no_args_is_help=True, help="What is forgotten when its time is over.")


def register(app: typer.Typer) -> None:
    """Hang the command into the tree."""
    app.add_typer(retention, name="retention")


@retention.command("run")
def run(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be forgotten.")] = False,
) -> None:
    """Forget at once all that has had its time; workers do this by themselves.

    That is who got which mailing, words of relays, refusals, sign-ups, requests, pauses, notices and worker processes.
    """
    from service.bootstrap import services
    from service.delivery import retention as forgetting

    parts = services()
    now = parts.now()
    if dry_run:
        with parts.database.read() as session:
            found = forgetting.rehearse(session, now=now)
    else:
        found = forgetting.run(parts.database, now=now)
    if json:
        print_json({**asdict(found), "dry_run": dry_run})
        return
    if not any(asdict(found).values()):
        say("nothing is due to be forgotten")
        return
    words = (
        f"readers of {found.links:,} letters in {found.mailings:,} mailings, the words of {found.replies:,} replies, "
        f"{found.evidence:,} old refusals, {found.sign_ups:,} sign-ups, {found.requests:,} requests, "
        f"{found.pauses:,} pauses, {found.notices:,} notices, {found.senders:,} worker processes"
    )
    say(f"to be forgotten: {words}; a dry run, nothing was changed" if dry_run else f"forgotten: {words}")
