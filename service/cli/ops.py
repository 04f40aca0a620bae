"""Commands about the installation itself: the schema, the settings, running it all on one machine."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.output import print_json, say

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

db = typer.Typer(no_args_is_help=True, help="The database's schema.")


def register(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(db, name="db")


@db.command("upgrade")
def upgrade(json: Json = False) -> None:
    """Create or migrate the schema; a new database gets a new keyring."""
    from service.bootstrap import services

    before, after = services().upgrade_database()
    if json:
        print_json({"before": before, "after": after})
    elif before == after:
        say(f"the schema is current ({after})")
    else:
        say(f"the schema went from {before or 'nothing'} to {after}")
