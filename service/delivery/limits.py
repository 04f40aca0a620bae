"""The limits as one worker process knows them: settings, over them what is set in the database, read each second."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from service.clock import suspended_monotonic
from service.domain.errors import UnavailableError
from service.domain.limits import (
    INSTALLATION,
    NO_LIMIT,
    Limit,
    midnight_after,
    provider_scope,
    relay_scope,
    scope_parts,
)
from service.mail.relay import Relay
from service.store import Session
from service.store import limits as store

# With a sign of life each half second, a change is known everywhere in less than two.
_FRESH_SECONDS = 0.7


class DaySpentError(UnavailableError):
    """What may be sent today is sent; it goes on at `until`."""

    def __init__(self, scope: str, until: dt.datetime) -> None:
        super().__init__(f"the daily cap of {scope} is used up; sending goes on at {until:%Y-%m-%d %H:%M} UTC")
        self.until = until


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read at one moment."""

    limits: Mapping[str, Limit]
    counted: Mapping[str, int] = field(default_factory=dict)
    day: dt.date = dt.date.min
    at: float = -1.0
    version: int = 0
    limited: frozenset[str] = frozenset()  # providers


class Limits:
    """Limits by scope. `defaults` are those of the settings and of the relays' URLs.

    `read` may be called from another thread than the rest.
    """

    def __init__(self, defaults: Mapping[str, Limit]) -> None:
        self.defaults = dict(defaults)
        self._known = _Known(self.defaults)

    @property
    def version(self) -> int:
        """A number that grows when a limit has changed."""
        return self._known.version

    @property
    def stale(self) -> bool:
        """Whether it is time to read them again."""
        return suspended_monotonic() - self._known.at > _FRESH_SECONDS

    def read(self, session: Session, now: dt.datetime) -> None:
        """Read what is set, and what was sent today where a cap asks for it."""
        at = suspended_monotonic()
        found = merged(self.defaults, store.every(session))
        day = now.astimezone(dt.UTC).date()
        capped = any(limit.cap(day) is not None for limit in found.values())
        counted = store.counted(session, day) if capped else {}
        before = self._known
        limited = frozenset(name for kind, name in map(scope_parts, found) if kind == "provider")
        self._known = _Known(found, counted, day, at, before.version + (found != before.limits), limited)

    def of(self, scope: str) -> Limit:
        """What holds for a scope."""
        return self._known.limits.get(scope, NO_LIMIT)

    def rate(self, scope: str) -> float:
        """Mails per second; 0 for no limit."""
        return self.of(scope).rate or 0.0

    def limited_providers(self) -> frozenset[str]:
        """The providers that have a limit."""
        return self._known.limited

    def connections_of_providers(self) -> dict[str, int]:
        """Of each provider that has such a limit, to how many of its letters at once a worker process may attend."""
        found = {name: self.of(provider_scope(name)).connections for name in self.limited_providers()}
        return {name: connections for name, connections in found.items() if connections is not None}

    def caps(self, scopes: Iterable[str], now: dt.datetime) -> dict[str, int]:
        """The daily caps that hold for any of these scopes."""
        limits = self._known.limits
        if not limits:
            return {}
        day = now.astimezone(dt.UTC).date()
        found = {scope: limits[scope].cap(day) for scope in scopes if scope in limits}
        return {scope: cap for scope, cap in found.items() if cap is not None}

    def spent(self, scope: str, now: dt.datetime) -> bool:
        """Whether the scope's cap of today is used up, as far as this process knows."""
        caps = self.caps((scope,), now)
        known = self._known
        return bool(caps) and known.day == now.astimezone(dt.UTC).date() and known.counted.get(scope, 0) >= caps[scope]

    def note_spent(self, scope: str, now: dt.datetime) -> None:
        """The database says that the scope's cap is used up."""
        known = self._known
        day = now.astimezone(dt.UTC).date()
        before = known.counted if known.day == day else {}
        # It may have been taken away with the very transaction that found the cap used up.
        cap = self.of(scope).cap(day) or 0
        self._known = replace(known, counted={**before, scope: cap}, day=day)


def defaults(rate: float, relays: Iterable[Relay]) -> dict[str, Limit]:
    """The limits that the settings name, by scope: the installation's rate (0: none), and what the relays' URLs say."""
    return {INSTALLATION: Limit(rate=rate or None)} | {
        relay_scope(relay.name): Limit(relay.rate, relay.connections, relay.per_day, relay.weight) for relay in relays
    }


def merged(defaults: Mapping[str, Limit], rows: Mapping[str, Limit]) -> dict[str, Limit]:
    """The rows over the defaults, by scope."""
    scopes = {**defaults, **rows}
    return {scope: rows.get(scope, NO_LIMIT).over(defaults.get(scope, NO_LIMIT)) for scope in scopes}


def spent_error(scope: str, now: dt.datetime) -> DaySpentError:
    """The error of a scope whose cap is used up at `now`."""
    return DaySpentError(scope, midnight_after(now))
