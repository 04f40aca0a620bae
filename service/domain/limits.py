"""Limits: what may be sent at most through a scope, which is the installation, a relay or a provider."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from service.domain.errors import InvalidInputError
from service.domain.warmup import warm_up_cap

INSTALLATION = "installation"
# In mails per second. A slower one than the slowest would have tokens come later than any clock can say.
MOST_RATE, SLOWEST_RATE = 1_000_000, 0.000_001
RATES = f"from 0 to {MOST_RATE:,}: mails per second"
_RELAY, _PROVIDER = "relay:", "provider:"


@dataclass(frozen=True, slots=True)
class Limit:
    """What is set for one scope; None leaves it to what stands below, and at last unlimited.

    `rate` is in mails per second, `per_day` in letters a day (UTC), both over all workers; 0 lifts what stands below.
    `connections` is per worker process, `weight` a relay's part beside the others, 0 for one that only stands in.
    """

    rate: float | None = None
    connections: int | None = None
    per_day: int | None = None
    weight: int | None = None
    warm_up_from: dt.date | None = None

    def over(self, below: Limit) -> Limit:
        """This limit where it is set, else the one below."""
        both = below.as_dict() | self.as_dict()
        return Limit(**both)  # type: ignore[arg-type]  # each under its own name

    def as_dict(self) -> dict[str, float | int | dt.date]:
        """What is set."""
        names = ("rate", "connections", "per_day", "weight", "warm_up_from")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def cap(self, day: dt.date) -> int | None:
        """Letters that may be let out on `day` (UTC) at the most; None for as many as there are."""
        warming = None if self.warm_up_from is None else warm_up_cap(self.warm_up_from, day)
        caps = [cap for cap in (self.per_day or None, warming) if cap is not None]
        return min(caps, default=None)


NO_LIMIT = Limit()


def is_rate(rate: float) -> bool:
    """Whether `rate` is 0, or so many mails per second as can be kept; infinity and what is no number are not."""
    return rate == 0 or SLOWEST_RATE <= rate <= MOST_RATE


def checked_rate(rate: float, name: str, *, zero: str) -> float:
    """`rate`, if it is one; raises InvalidInputError, in which `name` is what was set and `zero` says what 0 means."""
    if not is_rate(rate):
        raise InvalidInputError(f"{name} {rate:.10g} is not {RATES} ({zero}; the slowest is {SLOWEST_RATE:.6f})")
    return rate


def relay_scope(relay: str) -> str:
    """The scope of the relay of that name, `HOST:PORT`."""
    return _RELAY + relay


def provider_scope(provider: str) -> str:
    """The scope of a provider, by its name or the keyed hash of its domain."""
    return _PROVIDER + provider


def scope_parts(scope: str) -> tuple[str, str]:
    """What kind of scope it is (`installation`, `relay` or `provider`), and its name, empty for the installation."""
    kind, _, name = scope.partition(":")
    return kind, name


def midnight_after(now: dt.datetime) -> dt.datetime:
    """When the next day begins, in UTC: caps of a day are counted anew then."""
    day = now.astimezone(dt.UTC).date() + dt.timedelta(days=1)
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)
