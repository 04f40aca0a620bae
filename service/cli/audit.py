"""`tydzen audit`: who did what to which id, and whether anybody changed the log since."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.output import Exit, fail, print_json, print_json_lines, print_table, say

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

audit = typer.Typer(no_args_is_help=True, help="The log of who did what.")


def register(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(audit, name="audit")


@audit.command("show")
def show(
    last: Annotated[int, typer.Option(help="How many entries, the newest last.", min=1)] = 50,
    json: Json = False,
) -> None:
    """The newest entries."""
    from service.bootstrap import services
    from service.store import audit as log

    with services().database.read() as session:
        entries = log.newest(session, last)
    if json:
        print_json_lines(
            {"id": one.id, "at": one.at.isoformat(), "actor": one.actor, "action": one.action, "subject": one.subject}
            | {"details": dict(one.details)}
            for one in entries
        )
        return
    rows = [[one.id, one.at.isoformat(timespec="seconds"), one.actor, one.action, one.subject] for one in entries]
    print_table(["id", "at", "who", "what", "to"], rows)


@audit.command("verify")
def verify(json: Json = False) -> None:
    """Check the chain of hashes; exit 3 where an entry was changed, removed or put in later."""
    from service.bootstrap import services
    from service.store import audit as log

    with services().database.read() as session:
        broken = log.first_broken(session)
    if json:
        print_json({"ok": broken is None, "first_broken": broken})
    if broken is not None:
        fail(f"the audit log was changed at or before entry {broken}; compare it with a backup", Exit.CHECK_FAILED)
    if not json:
        say("the audit log is whole")
