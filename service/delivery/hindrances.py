"""Hindrances: what keeps a mailing's letters from going on by themselves just now, for an operator to see."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from service.store import Session, breakers, hosts, outcomes, senders
from service.store.breakers import PROVIDER, RELAY, Breaker
from service.store.hosts import AwaitedHost

# A host that has been silent for so long counts as away.
HOST_AWAY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Hindrances:
    """Relays in trouble, providers left alone, letters that only the journals of silent hosts can decide, and hosts
    that nobody goes on without, as they have not looked at the database that answers now.
    """

    relays: tuple[Breaker, ...]
    providers: tuple[Breaker, ...]
    hosts_away: Mapping[str, int]  # host: its letters of this mailing
    hosts_unheard: tuple[AwaitedHost, ...]


def of_mailing(session: Session, mailing: int, *, now: dt.datetime) -> Hindrances:
    """What hinders that mailing at `now`."""
    known = breakers.every(session).values()
    away: dict[str, int] = {}
    for sender in senders.away(session, HOST_AWAY_SECONDS):
        letters = outcomes.attempting_count(session, mailing, sender.id)
        if letters:
            away[sender.host] = away.get(sender.host, 0) + letters
    return Hindrances(
        tuple(one for one in known if one.scope.startswith(RELAY) and one.until is not None and one.until > now),
        tuple(one for one in known if one.scope.startswith(PROVIDER) and not one.closed(now)),
        away,
        tuple(hosts.unheard(session)),
    )
