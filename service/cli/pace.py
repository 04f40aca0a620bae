"""`tydzen pace`: how fast, how many at once and how many a day; shown, and changed while mailings run."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.output import actor, amount, print_json, print_json_lines, print_table, say
from service.domain.errors import InvalidInputError

if TYPE_CHECKING:
    from service.delivery.pacing import Scope
    from service.domain.limits import Limit

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be set, and set nothing.")]

pace = typer.Typer(no_args_is_help=True, help="Rates, connections, daily caps and warm-up: show, set.")


def register(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(pace, name="pace")


@pace.command("show")
def show(json: Json = False) -> None:
    """What holds for the installation, each relay and each provider, from where, and what was sent today."""
    from service.bootstrap import services
    from service.delivery import pacing

    parts = services()
    with parts.database.read() as session:
        found = pacing.shown(session, parts.limit_defaults(), now=parts.now())
    if json:
        print_json_lines(_scope_json(one) for one in found)
        return
    weighted = any(one.known and one.limit.weight is not None for one in found)
    columns = ["scope", "rate/s", "connections", "per day", "weight", "warm-up", "today", "left alone because"]
    print_table(columns, [_scope_row(one, weighted=weighted) for one in found])


@pace.command("set")
def set_limits(
    relay: Annotated[str | None, typer.Option(metavar="NAME", help="Of this relay, HOST:PORT.")] = None,
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Of this provider, or domain.")] = None,
    rate: Annotated[float | None, typer.Option(metavar="N", help="Mails per second, such as 20 or 0.5.")] = None,
    connections: Annotated[
        int | None, typer.Option(metavar="N", help="At once, of each worker process; a provider's: through each relay.")
    ] = None,
    per_day: Annotated[int | None, typer.Option(metavar="N", help="Letters a day, UTC, of all workers.")] = None,
    weight: Annotated[int | None, typer.Option(metavar="N", help="A relay's part beside the others.")] = None,
    warm_up_from: Annotated[str | None, typer.Option(metavar="DATE|off", help="50 that day, 100 the next, …")] = None,
    unset: Annotated[bool, typer.Option("--unset", help="Forget all that was set: the settings hold again.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Change limits, at once, while mailings run; without --relay and --provider of the whole installation."""
    from service.bootstrap import services
    from service.delivery import pacing

    parts = services()
    named = {"rate": rate, "connections": connections, "per_day": per_day, "weight": weight}
    changes: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if unset and (changes or warm_up_from is not None):
        raise InvalidInputError("--unset forgets all that was set: give it alone, or set what is to hold")
    if warm_up_from is not None:
        changes["warm_up_from"] = _day(warm_up_from)
    relays = [one.name for one in parts.relays]
    with parts.database.begin() as session:
        kept = pacing.kept(session) if unset else ()
        scope = pacing.scope_named(relays, parts.sealer, relay=relay, provider=provider, kept=kept)
        limit = pacing.change(
            session, parts.bell, scope, changes, unset=unset, actor=actor(), now=parts.now(), dry_run=dry_run
        )
        told = unset or "weight" in changes
        ones = pacing.counting_as_one(session, parts.limit_defaults(), scope, limit) if told else []
    if json:
        print_json({"scope": scope, "done": not dry_run, **_limit_json(limit), "counting_as_one": ones})
        return
    words = ", ".join(
        f"{name.replace('_', '-')} {value if isinstance(value, dt.date) else amount(value)}"
        for name, value in limit.as_dict().items()
    )
    say(f"{scope}{' would have' if dry_run else ''}: {words or 'nothing set here; the settings hold'}")
    for name in ones:
        counts = "would count" if dry_run else "counts"
        say(f"relay {name} has no weight: it {counts} as 1; give it one: tydzen pace set --relay {name} --weight N")


def _day(text: str) -> dt.date | None:
    if text == "off":
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(f"--warm-up-from {text!r} is no date: write it like 2019-06-03, or off") from None


def _limit_json(limit: Limit) -> dict[str, Any]:
    return {
        "rate": limit.rate,
        "connections": limit.connections,
        "per_day": limit.per_day,
        "weight": limit.weight,
        "warm_up_from": limit.warm_up_from and limit.warm_up_from.isoformat(),
    }


def _scope_json(one: Scope) -> dict[str, Any]:
    return {
        "scope": one.scope,
        **_limit_json(one.limit),
        "origins": dict(one.origins),
        # Counted only where there is a cap.
        "sent_today": None if one.cap_today is None else one.sent_today,
        "cap_today": one.cap_today,
        "warm_up_day": one.warm_up_day,
        "breaker": one.breaker,
        "known": one.known,
    }


def _scope_row(one: Scope, *, weighted: bool) -> list[Any]:
    of_relay = one.known and one.scope.startswith("relay:")

    def value(name: str) -> str:
        found = getattr(one.limit, name)
        if found is None:
            return "1 (none set)" if name == "weight" and weighted and of_relay else "-"
        return amount(found) + (" (set)" if one.origins[name] == "database" else "")

    warming = "-"
    if one.limit.warm_up_from is not None:
        warming = f"since {one.limit.warm_up_from}, " + (f"day {one.warm_up_day}" if one.warm_up_day else "over")
    today = "-" if one.cap_today is None else f"{one.sent_today:,} of {one.cap_today:,}"
    return [
        one.scope if one.known else f"{one.scope} (not in TYDZEN_SMTP_URL)",
        value("rate"),
        value("connections"),
        value("per_day"),
        value("weight"),
        warming,
        today,
        one.breaker or "",
    ]
