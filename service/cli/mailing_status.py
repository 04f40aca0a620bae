"""`tydzen mailing status`: how far a mailing is, and what keeps it from going on by itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.mailing import Id, Json, number_of
from service.cli.output import local_time, print_fields, print_json, print_table, say, zoned_time
from service.domain.mailing import MailingState

if TYPE_CHECKING:
    from service.bootstrap import Services
    from service.delivery.hindrances import Hindrances
    from service.delivery.progress import Status
    from service.store import Session
    from service.store.breakers import Breaker


def register(mailing: typer.Typer) -> None:
    """Hang the command beside the others about mailings."""
    mailing.command("status")(status)


def status(
    mailing_id: Id,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing until it is sent, cancelled or paused.")] = False,
    json: Json = False,
) -> None:
    """How far the mailing is, in numbers that add up."""
    from service.bootstrap import services
    from service.cli import watching
    from service.delivery import progress

    parts = services()
    number = number_of(parts, mailing_id)
    if watch and json:
        _stream_json(parts, number)
        return
    if watch:
        watching.watch(parts, number)
    with parts.database.look() as session:
        found = progress.status(session, number)
    if json:
        print_json(_as_json(parts, found))
        return
    with parts.database.read() as session:
        hindered, day_spent = _in_the_way(parts, session, number)
    show_status(found)
    _show_hindrances(hindered)
    if day_spent:
        say(day_spent)


def _in_the_way(parts: Services, session: Session, number: int) -> tuple[Hindrances, str | None]:
    """What keeps letters from going on by themselves, and whether that is the day's cap."""
    from service.delivery import hindrances, pacing

    now = parts.now()
    hindered = hindrances.of_mailing(session, number, now=now)
    return hindered, pacing.held_until(session, number, parts.limit_defaults, now=now)


def _as_json(parts: Services, found: Status) -> dict[str, Any]:
    from service.delivery import pacing

    with parts.database.read() as session:
        hindered, day_spent = _in_the_way(parts, session, found.mailing.id)
        rate = pacing.installation_rate(session, parts.settings.rate)
    return {**status_json(found, rate), **_hindrances_json(hindered), "day_spent": day_spent}


def _stream_json(parts: Services, number: int) -> None:
    """A line now and whenever it would be another one."""
    from service.cli import watching

    before = None
    for look in watching.looks(parts, number):
        line = _as_json(parts, look)
        if line != before:
            print_json(line)
            sys.stdout.flush()  # through a pipe, too, while it happens
        before = line


def show_status(found: Status) -> None:
    """The ledger in sums: one line per edition."""
    one = found.mailing
    fields: dict[str, Any] = {
        "mailing": one.id,
        "issue": one.week,
        "state": one.state.value + (f" ({one.reason})" if one.reason else ""),
    }
    if one.state is MailingState.SCHEDULED and one.release_at:
        fields["goes out"] = zoned_time(one.release_at)
    fields["candidates"] = found.candidates
    for reason, count in sorted(one.excluded.items()):
        fields[f"excluded: {reason}"] = count
    print_fields(fields)
    columns = ["edition", "planned", *found.counts.as_dict()]
    rows = [[chain, counts.planned, *counts.as_dict().values()] for chain, counts in sorted(found.editions.items())]
    rows.append(["all", found.counts.planned, *found.counts.as_dict().values()])
    print_table(columns, rows)
    if found.corrected:
        print_table(["edition", "revision", "accepted", "waiting"], _revisions(found))


def _revisions(found: Status) -> list[list[Any]]:
    """Who got which, where the issue was corrected on its way."""
    return [
        [chain, revision, counts.accepted, counts.unfinished]
        for chain, by_revision in sorted(found.revisions.items())
        for revision, counts in by_revision.items()
    ]


def status_json(found: Status, rate: float) -> dict[str, Any]:
    """The object that `mailing status --json` promises."""
    from service.delivery.progress import eta_seconds

    one = found.mailing
    return {
        "id": one.id,
        "issue": one.week,
        "state": one.state.value,
        "reason": one.reason,
        "at": one.release_at.isoformat() if one.release_at else None,
        "candidates": found.candidates,
        "excluded": dict(one.excluded),
        "planned": found.counts.planned,
        **found.counts.as_dict(),
        "rate": one.rate if one.rate is not None else rate,
        "eta_seconds": eta_seconds(found, rate),
        "editions": {
            chain: {"planned": counts.planned, **counts.as_dict()} for chain, counts in found.editions.items()
        },
        "revisions": {
            chain: {str(revision): counts.as_dict() for revision, counts in by_revision.items()}
            for chain, by_revision in found.revisions.items()
        },
    }


def _show_hindrances(found: Hindrances) -> None:
    """On stderr, in sentences: the numbers on stdout stay as they are."""
    for one in found.relays:
        say(f"the relay {_name(one)} is in trouble since {local_time(one.since)} ({one.kind}): {one.reason}")
    for one in found.providers:
        say(f"{_name(one)} is left alone {_until(one)}: {one.reason}")
    for host, letters in sorted(found.hosts_away.items()):
        say(
            f"the host {host} is away with {letters} letters under way; they are decided when it is back, "
            "and else uncertain by a deadline"
        )
    for each in found.hosts_unheard:
        say(
            f"another database answers since {local_time(each.since)}, and nothing goes on before the host {each.host} "
            "has looked whether it knows all letters that it sent: start a worker there; or, if it is gone: "
            f"tydzen mailing reconcile --without {each.host[:8]}"
        )


def _hindrances_json(found: Hindrances) -> dict[str, Any]:
    return {
        "relays_in_trouble": [
            {"relay": _name(one), "kind": one.kind, "reason": one.reason, "since": one.since.isoformat()}
            for one in found.relays
        ],
        "providers_left_alone": [
            {
                "provider": _name(one),
                "kind": one.kind,
                "reason": one.reason,
                "since": one.since.isoformat(),
                "until": one.until.isoformat() if one.until else None,
            }
            for one in found.providers
        ],
        "hosts_away": dict(found.hosts_away),
        "hosts_unheard": [one.host for one in found.hosts_unheard],
    }


def _name(one: Breaker) -> str:
    return one.scope.partition(":")[2]


def _until(one: Breaker) -> str:
    return f"until {local_time(one.until)}, and then tried again" if one.until else "for now"
