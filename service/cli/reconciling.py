"""`tydzen mailing reconcile`: what a restored database leaves for an operator to decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.output import actor, confirm, print_json, print_table, say
from service.cli.rehearsing import changing, ending
from service.domain.errors import InvalidInputError

if TYPE_CHECKING:
    from service.bootstrap import Services
    from service.store.hosts import AwaitedHost

_MINUTE = "%Y-%m-%d %H:%M"
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(mailing: typer.Typer) -> None:
    """Hang the command into the noun it belongs to."""
    mailing.command("reconcile")(reconcile)


def reconcile(
    week: Annotated[
        str | None, typer.Argument(help="Let this week's issue be sent to everybody again.", metavar="WEEK")
    ] = None,
    without: Annotated[
        str | None, typer.Option(help="Wait no longer for this host's journals.", metavar="HOST")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """After a restored backup: show what is open; or decide it, by naming a week or a host."""
    from service.bootstrap import services

    parts = services()
    if week and without:
        raise InvalidInputError("name a WEEK or --without HOST, one at a time")
    if week:
        _send_again(parts, week, dry_run=dry_run, yes=yes, json=json)
    elif without:
        _go_on_without(parts, without, dry_run=dry_run, yes=yes, json=json)
    else:
        _show(parts, json=json)


def _show(parts: Services, *, json: bool) -> None:
    from service.store import hosts, lost_issues

    with parts.database.read() as session:
        lost, away, unheard = lost_issues.undecided(session), hosts.awaited(session), hosts.unheard(session)
    if json:
        print_json(
            {
                "lost_issues": [
                    {"issue": one.week, "host": one.host, "begun_at": one.begun_at.isoformat()} for one in lost
                ],
                "awaited_hosts": [_as_json(one) for one in away],
                "unheard_hosts": [_as_json(one) for one in unheard],
            }
        )
        return
    rows = [["issue", one.week, f"mailed by host {one.host[:8]} since {one.begun_at:{_MINUTE}} UTC"] for one in lost]
    rows += [
        ["host", one.host[:8], f"its journals are not compared yet; seen {one.seen_at:{_MINUTE}} UTC"] for one in away
    ]
    rows += [
        ["host", one.host[:8], f"it has not looked at the database that answers now; seen {one.seen_at:{_MINUTE}} UTC"]
        for one in unheard
    ]
    if rows:
        print_table(["", "which", "what is open"], rows)
    else:
        say(
            "no host is waited for, and no issue is missing. Each worker compares its journals when it starts; "
            "mailings that it paused wait for you: tydzen mailing list. What hosts without workers know of who left "
            "is not compared: tydzen subscriber reapply --log FILE"
        )


def _as_json(one: AwaitedHost) -> dict[str, Any]:
    return {"host": one.host, "since": one.since.isoformat(), "seen_at": one.seen_at.isoformat()}


def _send_again(parts: Services, week: str, *, dry_run: bool, yes: bool, json: bool) -> None:
    from service.delivery import standing
    from service.domain.weeks import Week
    from service.store import mailings

    wanted = str(Week.parse(week))
    if not dry_run:
        confirm(f"Whoever got issue {wanted} before the backup was restored will get it again. Is that right?", yes=yes)
    with changing(parts.database, dry_run=dry_run) as session:
        standing.send_again(session, wanted, actor=actor(), now=parts.now())
        first = mailings.of_issue(session, wanted)
    command = f"tydzen mailing retry {first.id}" if first else f"tydzen issue send {wanted}"
    if json:
        print_json({"issue": wanted, "done": "may be sent again", "dry_run": dry_run})
    else:
        say(f"issue {wanted} {'could' if dry_run else 'may'} be sent again: {command}{ending(dry_run)}")


def _go_on_without(parts: Services, host: str, *, dry_run: bool, yes: bool, json: bool) -> None:
    from service.delivery import standing

    if not dry_run:
        confirm(f"Letters that only host {host} knows of will be sent again. Is it gone for good?", yes=yes)
    with changing(parts.database, dry_run=dry_run) as session:
        name = standing.go_on_without(session, host, actor=actor(), now=parts.now())
    if json:
        print_json({"host": name, "done": "not waited for", "dry_run": dry_run})
    else:
        say(f"host {name} {'would' if dry_run else 'will'} not be waited for any longer{ending(dry_run)}")
