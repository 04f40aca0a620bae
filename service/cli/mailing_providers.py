"""`tydzen mailing providers`: how far a mailing is with each provider of mailboxes."""

from __future__ import annotations

import typer

from service.cli.mailing import Id, Json, number_of
from service.cli.output import print_json, print_table


def register(mailing: typer.Typer) -> None:
    """Hang the command beside the others about mailings."""
    mailing.command("providers")(providers)


def providers(mailing_id: Id, json: Json = False) -> None:
    """Count the deliveries of a mailing by state, for each known provider and for all others together."""
    from service.bootstrap import services
    from service.domain.delivery import DeliveryState
    from service.store import mailings
    from service.store import providers as store

    parts = services()
    number = number_of(parts, mailing_id)
    with parts.database.read() as session:
        mailings.get(session, number)
        found = store.states(session, number)
    rows = {
        name: {state.label: counts.get(state, 0) for state in DeliveryState} for name, counts in sorted(found.items())
    }
    planned = {name: sum(counts.values()) for name, counts in rows.items()}
    if json:
        print_json({"id": number, "providers": {name: {"planned": planned[name], **rows[name]} for name in rows}})
        return
    names = [state.label for state in DeliveryState]
    print_table(["provider", "planned", *names], [[name, planned[name], *rows[name].values()] for name in rows])
