"""`tydzen subscriber stats`: who came and who left, by week and languages, and how many read at present."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from service.audience.growth import Growth
    from service.store.growth import Sums

# Ten years; more than anybody can read.
_MOST_WEEKS = 520


def register(subscriber: typer.Typer) -> None:
    """Hang the command beside the others about readers."""
    subscriber.command("stats")(stats)


def stats(
    weeks: Annotated[int, typer.Option(help="How many weeks, the present one last.", min=1, max=_MOST_WEEKS)] = 12,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count who came and who left each week, by languages, and the active readers at present."""
    from service.audience import growth
    from service.bootstrap import services

    parts = services()
    with parts.database.read() as session:
        found = growth.look_back(session, weeks=weeks, now=parts.now())
    if json:
        print_json(_as_json(found))
    else:
        _show(found)


def _show(found: Growth) -> None:
    from service.domain.growth import Change

    names = [change.value for change in Change]
    if not found.weeks:
        say(f"nobody came or left from {found.first} to {found.last}")
    else:
        rows = [[str(week), chain, *sums.values()] for (week, chain), sums in found.weeks.items()]
        print_table(["week", "languages", *names], rows)
    totals = _with_all(found)
    if len(totals) > 1:
        rows = [[chain, *sums.values()] for chain, sums in totals.items()]
        print_table(["languages", "active", *names], rows, title=f"\n{found.first} to {found.last}, and active now")
    else:
        say("there are no readers; to bring some: tydzen subscriber import FILE, or tydzen subscriber add ADDRESS")


def _as_json(found: Growth) -> dict[str, Any]:
    weeks: dict[str, dict[str, Any]] = {}
    for (week, chain), sums in found.weeks.items():
        weeks.setdefault(str(week), {})[chain] = sums
    *chains, (_, everybody) = _with_all(found).items()
    return {
        "from": str(found.first),
        "to": str(found.last),
        "weeks": weeks,
        "languages": dict(chains),
        "all": everybody,
    }


def _with_all(found: Growth) -> dict[str, dict[str, int]]:
    """The active readers and the sums of all weeks, by chain; the last is all chains together."""
    from service.audience.growth import together

    totals = found.totals()
    rows = {chain: _row(found.active.get(chain, 0), sums) for chain, sums in totals.items()}
    return {**rows, "all": _row(sum(found.active.values()), together(totals))}


def _row(active: int, sums: Sums) -> dict[str, int]:
    return {"active": active, **{change.value: readers for change, readers in sums.items()}}
