"""Pacing: what an operator sets for a scope, and sees of it. Every worker knows of a change within two seconds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from service.delivery.limits import merged
from service.delivery.plan import FIRST_RINGS
from service.domain.errors import InvalidInputError, NotFoundError
from service.domain.limits import (
    INSTALLATION,
    NO_LIMIT,
    Limit,
    checked_rate,
    midnight_after,
    provider_scope,
    relay_scope,
    scope_parts,
)
from service.domain.providers import KNOWN
from service.domain.warmup import warm_up_day
from service.mail.address import envelope_domain
from service.queue import SEND_BATCH, Bell, ring_after_commit
from service.store import Session, audit, batches, breakers
from service.store import limits as store
from service.store.instants import stored
from service.store.provider_keys import HASHED, is_hashed, provider_key
from service.store.sealing import Sealer

SETTINGS, DATABASE = "settings", "database"
_CAPS = frozenset({"per_day", "warm_up_from"})
_MOST_LETTERS, _MOST_CONNECTIONS, _MOST_WEIGHT = 1_000_000_000, 100, 1000


@dataclass(frozen=True, slots=True)
class Scope:
    """What holds for one scope. `origins` says of each limit whether the settings or the database set it."""

    scope: str
    limit: Limit
    origins: Mapping[str, str]
    sent_today: int
    cap_today: int | None
    warm_up_day: int | None
    breaker: str | None
    known: bool = True  # no: it is of a relay that the settings do not name, or no longer

    @property
    def spent(self) -> bool:
        """Whether nothing more goes out of it today."""
        return self.known and self.cap_today is not None and self.sent_today >= self.cap_today


def scope_named(
    relays: Iterable[str],
    sealer: Sealer,
    *,
    relay: str | None = None,
    provider: str | None = None,
    kept: Collection[str] = (),
) -> str:
    """The scope of a relay (`HOST:PORT`, or the host alone where that says which) or of a provider; else the whole.

    Of `kept`, scopes for which something is set, each is found by its exact name, whatever the settings say: else what
    is set for a relay that left them could never be unset. Raises NotFoundError for a relay that is not set,
    InvalidInputError for a name that can be no provider's.
    """
    if relay is not None and provider is not None:
        raise InvalidInputError("a limit is of one relay or of one provider: name either --relay or --provider")
    if relay is not None:
        if relay_scope(relay) in kept:
            return relay_scope(relay)
        known = sorted(relays)
        found = [name for name in known if relay in {name, name.rpartition(":")[0]}]
        if len(found) != 1:
            raise NotFoundError(f"there is no one relay {relay!r} in TYDZEN_SMTP_URL; known are {', '.join(known)}")
        return relay_scope(found[0])
    if provider is None:
        return INSTALLATION
    named = provider.strip().lower()
    if provider_scope(named) in kept:
        return provider_scope(named)
    named = named.removesuffix(".")
    if not (named in KNOWN or is_hashed(named) or _is_domain(named)):
        # Without what was named, which may be a reader's whole address.
        raise InvalidInputError(
            f"this is no provider: give a domain, its {HASHED} and 16 hexadecimal digits from tydzen pace show, or one "
            f"of {', '.join(sorted(KNOWN))}"
        )
    return provider_scope(provider_key(sealer, named))


def _is_domain(name: str) -> bool:
    """Whether a reader's address can have it after the @."""
    try:
        labels = envelope_domain(name).split(".")
    except InvalidInputError:
        return False
    return len(labels) > 1 and not name.startswith("[") and not labels[-1].isdecimal()


def kept(session: Session) -> Collection[str]:
    """The scopes for which something is set."""
    return store.every(session)


def change(
    session: Session,
    bell: Bell,
    scope: str,
    changes: Mapping[str, float | dt.date | None],
    *,
    unset: bool = False,
    actor: str,
    now: dt.datetime,
    dry_run: bool = False,
) -> Limit:
    """Set these limits of a scope, by name, and leave the others; with `unset` first forget all that was set.

    Returns what is set then. Raises InvalidInputError, before anything is changed, for a number out of range or a limit
    that a scope of this kind cannot have.
    """
    if not changes and not unset:
        raise InvalidInputError("nothing to set: give at least one limit, or --unset")
    for name, value in changes.items():
        _require_possible(scope, name, value)
    if not dry_run and (unset or not _CAPS.isdisjoint(changes)):
        # Whoever gives a batch back because a cap is used up is waited for, and let go below, or sees the new cap.
        store.left(session, {scope: 0}, now.astimezone(dt.UTC).date())
    before = NO_LIMIT if unset else store.every(session).get(scope, NO_LIMIT)
    after = Limit(**{**before.as_dict(), **changes})  # type: ignore[arg-type]  # each under its own name
    if dry_run:
        return after
    if after == NO_LIMIT:
        store.remove(session, scope)
    else:
        store.save(session, scope, after, now_ms=stored(now))
    # What waits for the next day may be let out now: whoever claims it asks the caps again.
    batches.let_go(session, now_ms=stored(now))
    breakers.hold_again(session, now=now)
    for batch in batches.to_ring(session, now_ms=stored(now), quiet_seconds=0, limit=FIRST_RINGS):
        ring_after_commit(session, bell, SEND_BATCH, batch)
    details = {name: str(value) if isinstance(value, dt.date) else value for name, value in changes.items()}
    audit.append(session, at=now, actor=actor, action="pace.set", subject=scope, details={**details, "unset": unset})
    return after


def _require_possible(scope: str, name: str, value: float | dt.date | None) -> None:
    kind, _ = scope_parts(scope)
    if name == "weight" and kind != "relay":
        raise InvalidInputError("a weight is a relay's part beside the others: name the relay with --relay")
    if name == "connections" and kind == INSTALLATION:
        raise InvalidInputError("connections are to one relay, or for one provider: name it with --relay or --provider")
    if value is None or isinstance(value, dt.date):
        return
    if name == "rate":
        checked_rate(value, "--rate", zero="0 lifts what the settings say, 0.5 is one in two seconds")
        return
    lowest, highest, what = {
        "connections": (1, _MOST_CONNECTIONS, "connections of each worker process"),
        "per_day": (0, _MOST_LETTERS, "letters a day (0 lifts what the settings say)"),
        "weight": (0, _MOST_WEIGHT, "a relay's part (0: it stands in when no other can)"),
    }[name]
    if not lowest <= value <= highest:
        raise InvalidInputError(f"--{name.replace('_', '-')} {value:,} is not from {lowest} to {highest:,}: {what}")


def shown(session: Session, defaults: Mapping[str, Limit], *, now: dt.datetime) -> list[Scope]:
    """The installation, every relay, and each provider that has a limit or is left alone.

    So are relays that `defaults` do not name, as long as something is set for them or they are left alone.
    """
    day = now.astimezone(dt.UTC).date()
    rows, held = store.every(session), breakers.every(session)
    limits, counted = merged(defaults, rows), store.counted(session, day)
    found = []
    for scope in sorted({*limits, *held}, key=lambda scope: (scope != INSTALLATION, scope[:1] != "r", scope)):
        limit, breaker = limits.get(scope, NO_LIMIT), held.get(scope)
        set_here = rows.get(scope, NO_LIMIT).as_dict()
        origins = {name: DATABASE if name in set_here else SETTINGS for name in limit.as_dict()}
        warming = None if limit.warm_up_from is None else warm_up_day(limit.warm_up_from, day)
        why = None if breaker is None or breaker.closed(now) else breaker.reason
        known = scope in defaults or scope_parts(scope)[0] != "relay"
        found.append(Scope(scope, limit, origins, counted.get(scope, 0), limit.cap(day), warming, why, known))
    return found


def counting_as_one(session: Session, defaults: Mapping[str, Limit], scope: str, after: Limit) -> list[str]:
    """The relays of the settings that have no weight beside others that have one, once `after` is set for `scope`.

    Who gives one relay of several a weight ends their order, and makes the others sharers of weight 1.
    """
    relays = [one for one in defaults if scope_parts(one)[0] == "relay"]
    limits = merged(defaults, {**store.every(session), scope: after})
    without = sorted(scope_parts(one)[1] for one in relays if limits[one].weight is None)
    return without if len(without) < len(relays) else []


def installation_rate(session: Session, setting: float) -> float:
    """What holds for the whole installation, in mails per second, `setting` being TYDZEN_RATE; 0 for no limit."""
    set_here = store.every(session).get(INSTALLATION, NO_LIMIT).rate
    return setting if set_here is None else set_here


def held_until(
    session: Session, mailing: int, defaults: Callable[[], Mapping[str, Limit]], *, now: dt.datetime
) -> str | None:
    """Why letters of the mailing wait for another day, for a person to read; None where none do."""
    if not batches.held_back(session, mailing, now_ms=stored(now)):
        return None
    spent = [f"{one.scope} ({one.cap_today:,} a day)" for one in shown(session, defaults(), now=now) if one.spent]
    if not spent:
        return None
    return f"the daily cap of {', '.join(spent)} is used up; it goes on at {midnight_after(now):%Y-%m-%d %H:%M} UTC"
