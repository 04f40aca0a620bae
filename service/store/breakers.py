"""Breakers as all workers see them: relays in trouble, providers left alone, and what an outage refused wrongly.

Scopes are `relay:HOST:PORT` and `provider:NAME`; of a provider that is not a known one only a keyed hash is kept.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.breakers import hold_of
from service.domain.delivery import DeliveryState
from service.domain.growth import Change
from service.domain.replies import ReplyClass
from service.domain.retries import GIVE_UP_AFTER
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.store import growth
from service.store.batches import add_counts, hold, settle
from service.store.database import Session
from service.store.departures import Departure, Step
from service.store.engine_tables import breakers
from service.store.errors import SpoiledAddressError, UnknownKeyError
from service.store.instants import database_now, loaded, loaded_or_none, stored
from service.store.mailings import BEGUN
from service.store.provider_keys import provider_key, provider_of_address
from service.store.sealing import Sealer
from service.store.tables import attempts, batches, deliveries, mailings, subscribers, suppressions

RELAY, PROVIDER = "relay:", "provider:"

# Kinds of a provider's breaker: it refuses many mailboxes, or us, and is simply given time; it refuses most letters,
# and must be tried before it gets more; somebody tries it now; it was found well.
HARD, POLICY, OUTAGE, PROBING, PROVEN = "hard", "policy", "outage", "probing", "proven"
# The kind of a relay's trouble that does not pass by itself: it refuses our login.
AUTH = "auth"
_HOLDS = frozenset({HARD, POLICY, OUTAGE})
# One that takes a few letters and refuses again within a day has not been well.
_AWAY = frozenset({OUTAGE, PROBING, PROVEN})
_PROVEN_FOR = dt.timedelta(hours=24)
_BATCH_OF_HASHES = 500


@dataclass(frozen=True, slots=True)
class Breaker:
    """One scope that is, or was, left alone: until when, and why, in words for a person.

    A provider has been `away` since the first of the holds that followed upon each other, with no sign that it is well.
    """

    scope: str
    kind: str
    reason: str
    since: dt.datetime
    until: dt.datetime | None
    trips: int
    away: dt.datetime

    def closed(self, now: dt.datetime) -> bool:
        """Whether letters pass as usual, with the last trip remembered."""
        over = self.until is not None and self.until <= now
        return self.kind == PROVEN or (over and self.kind in {HARD, POLICY}) or self.forgotten(now)

    def forgotten(self, now: dt.datetime) -> bool:
        """Whether nobody has found it away for a day: what it says is of an older time, and no sweep came by."""
        known_for = dt.timedelta(0) if self.kind == PROVEN else _PROVEN_FOR
        return self.until is not None and self.until + known_for <= now


def sealed_scope(sealer: Sealer, provider: str) -> str:
    """The scope of a provider as letters name it: a known name, or a domain, which is not told."""
    return PROVIDER + provider_key(sealer, provider)


def every(session: Session) -> dict[str, Breaker]:
    """All breakers, by scope."""
    return {row.scope: _breaker(row) for row in session.execute(_EVERY)}


_EVERY = sa.select(breakers).order_by(breakers.c.scope)


def _breaker(row: sa.Row[tuple[object, ...]]) -> Breaker:
    since = loaded(row.since)
    away = loaded_or_none(row.away_since) or since
    return Breaker(row.scope, row.kind, row.reason, since, loaded_or_none(row.until), row.trips, away)


def note_trouble(
    session: Session, scope: str, kind: str, reason: str, *, now: dt.datetime, until: dt.datetime
) -> Breaker:
    """Remember that a relay is in trouble, and until when that is to be believed; it is so `since` it was first told.

    What was told and has not been told again in time is forgotten: then the trouble begins anew.
    """
    insert = postgresql.insert if session.postgresql else sqlite.insert
    values = {"kind": kind, "reason": reason, "until": stored(until)}
    statement = insert(breakers).values(scope=scope, since=stored(now), trips=1, **values)
    over = breakers.c.until < stored(now)
    again = {
        **values,
        "since": sa.case((over, stored(now)), else_=breakers.c.since),
        "trips": breakers.c.trips + sa.case((over, 1), else_=0),
    }
    changed = statement.on_conflict_do_update(index_elements=["scope"], set_=again).returning(breakers)
    return _breaker(session.execute(changed).one())


def clear(session: Session, scope: str) -> bool:
    """Whether there was a breaker of that scope; it is gone now."""
    return session.execute(breakers.delete().where(breakers.c.scope == scope)).rowcount > 0


def hold_provider(session: Session, scope: str, kind: str, reason: str, *, now: dt.datetime) -> tuple[Breaker, bool]:
    """Leave a provider alone for an hour, or twice as long as the last time; and whether nobody had done so before."""
    insert = postgresql.insert if session.postgresql else sqlite.insert
    until = now + hold_of(1)
    values = {"kind": kind, "reason": reason, "since": stored(now)}
    fresh = insert(breakers).values(scope=scope, until=stored(until), trips=1, away_since=stored(now), **values)
    made = session.execute(fresh.on_conflict_do_nothing().returning(breakers)).first()
    if made is not None:
        return _breaker(made), True
    known = _locked(session, scope)
    if known.kind in _HOLDS and known.until is not None and known.until > now:
        return known, False
    trips = known.trips + 1
    still = known.kind in _AWAY and not known.forgotten(now)
    times = {"until": stored(now + hold_of(trips)), "away_since": stored(known.away if still else now)}
    changed = breakers.update().where(breakers.c.scope == scope).values(trips=trips, **times, **values)
    held = changed.returning(breakers)
    return _breaker(session.execute(held).one()), True


def _locked(session: Session, scope: str) -> Breaker:
    chosen = sa.select(breakers).where(breakers.c.scope == scope)
    return _breaker(session.execute(chosen.with_for_update() if session.postgresql else chosen).one())


def hold_batches(session: Session, held: Breaker, *, now: dt.datetime) -> None:
    """Let nobody claim the provider's own batches before its hold ends; what is in work is held back letter by letter.

    Where they are to be given up sooner, they may be claimed at that time: what waits in them expires.
    """
    until = held.until or now
    free = (
        sa.select(batches.c.id, BEGUN.label("begun"))
        .join(mailings, mailings.c.id == batches.c.mailing_id)
        .where(
            batches.c.provider == held.scope.removeprefix(PROVIDER),
            batches.c.open,
            batches.c.lease_until <= database_now(postgresql=session.postgresql),
        )
        .order_by(batches.c.id)
    )
    rows = session.execute(free.with_for_update(of=batches, skip_locked=True) if session.postgresql else free).all()
    for begun in {row.begun for row in rows}:
        end = max(held.away, loaded_or_none(begun) or held.away) + GIVE_UP_AFTER
        at = end if now < end < until else until
        chosen = [row.id for row in rows if row.begun == begun]
        sooner = sa.and_(batches.c.id.in_(chosen), batches.c.not_before < stored(at))
        session.execute(batches.update().where(sooner).values(not_before=stored(at)))


def hold_again(session: Session, *, now: dt.datetime) -> None:
    """Let nobody claim the batches of those providers that are left alone now, whatever let them go."""
    for one in every(session).values():
        if one.kind in _HOLDS and one.until is not None and one.until > now:
            hold_batches(session, one, now=now)


def away_since(session: Session, provider: str, now: dt.datetime) -> dt.datetime | None:
    """Since when the provider that letters name so has stayed away; None where nobody has found it away for a day."""
    row = session.execute(_EVERY.where(breakers.c.scope == sealed_scope(session.sealer, provider))).first()
    known = None if row is None else _breaker(row)
    return None if known is None or known.forgotten(now) else known.away


def take_probe(session: Session, scope: str, *, now: dt.datetime, until: dt.datetime) -> bool:
    """Whether it is this caller who sends a few letters to see how the provider is; it has until `until` for that."""
    waits = breakers.c.kind.in_((OUTAGE, PROBING))
    over = sa.and_(breakers.c.scope == scope, waits, breakers.c.until <= stored(now))
    return session.execute(breakers.update().where(over).values(kind=PROBING, until=stored(until))).rowcount == 1


def prove(session: Session, scope: str, *, now: dt.datetime) -> None:
    """The provider takes mail again: for a day its refusals are believed, and another trip lasts longer."""
    statement = breakers.update().where(breakers.c.scope == scope)
    session.execute(statement.values(kind=PROVEN, until=stored(now + _PROVEN_FOR)))


def prune(session: Session, *, now: dt.datetime) -> int:
    """Forget relays of whose trouble nobody has told of late, and providers left alone over a day ago; how many."""
    return session.execute(_PRUNE, {"now": stored(now), "long_ago": stored(now - _PROVEN_FOR)}).rowcount


_PAST = breakers.c.until < sa.bindparam("now")
_PRUNE = breakers.delete().where(
    sa.or_(
        sa.and_(breakers.c.scope.startswith(RELAY, autoescape=True), _PAST),
        sa.and_(breakers.c.kind == PROVEN, _PAST),
        sa.and_(breakers.c.kind.in_(_HOLDS | {PROBING}), breakers.c.until < sa.bindparam("long_ago")),
    )
)


def disbelieve(session: Session, scope: str, *, since: dt.datetime, due: dt.datetime, now: dt.datetime) -> int:
    """Take back what hard refusals at that provider since then have done, of any mailing; how many there were.

    The readers are active again and not suppressed; their deliveries are deferred to `due`. Idempotent.
    """
    found = _hard_refusals(session, scope, since)
    refused_in = sorted({row.batch_id for row in found})
    # All batches before any reader, as by whoever records: a reader may have been refused in one, and be mailed in the
    # next by a worker who is about to say the same.
    for batch in refused_in:
        hold(session, batch)
    undone: list[tuple[bytes, bytes]] = []
    for batch in refused_in:
        changed = [row for row in found if row.batch_id == batch and _defer(session, row.id, row.attempts, due, now)]
        add_counts(session, batch, {DeliveryState.REFUSED: -len(changed), DeliveryState.DEFERRED: len(changed)})
        settle(session, [batch])
        undone += [(row.subscriber, row.address_hash) for row in changed]
    _make_active(session, undone, now)
    return len(found)


def _hard_refusals(session: Session, scope: str, since: dt.datetime) -> list[sa.Row[tuple[object, ...]]]:
    statement = (
        sa.select(
            deliveries.c.id,
            deliveries.c.attempts,
            deliveries.c.batch_id,
            subscribers.c.id.label("subscriber"),
            subscribers.c.address_hash,
            subscribers.c.sealed,
            subscribers.c.provider,
        )
        .join(attempts, sa.and_(attempts.c.delivery_id == deliveries.c.id, attempts.c.number == deliveries.c.attempts))
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber_id)
        .where(
            attempts.c.outcome == ReplyClass.HARD.value,
            attempts.c.at >= stored(since),
            deliveries.c.state == int(DeliveryState.REFUSED),
        )
    )
    rows = session.execute(statement).all()
    sealer, name = session.sealer, scope.removeprefix(PROVIDER)
    return [row for row in rows if _provider(sealer, row) == name]


def _provider(sealer: Sealer, reader: sa.Row[tuple[object, ...]]) -> str | None:
    """By the address; where that does not open here (another host may have its key), as it was noted, if it was."""
    try:
        return provider_of_address(sealer, sealer.open(reader.subscriber, reader.sealed))
    except (UnknownKeyError, SpoiledAddressError):
        noted: str | None = reader.provider
        return noted


def _defer(session: Session, delivery: int, attempt: int, due: dt.datetime, now: dt.datetime) -> bool:
    refused = sa.and_(
        deliveries.c.id == delivery,
        deliveries.c.attempts == attempt,
        deliveries.c.state == int(DeliveryState.REFUSED),
        deliveries.c.reason == ReplyClass.HARD.value,
    )
    values = {"state": int(DeliveryState.DEFERRED), "due_at": stored(due), "reason": "disbelieved", "at": stored(now)}
    if session.execute(deliveries.update().where(refused).values(values)).rowcount == 0:
        return False
    told = sa.and_(attempts.c.delivery_id == delivery, attempts.c.number == attempt)
    session.execute(attempts.update().where(told).values(outcome=ReplyClass.TRANSIENT.value))
    return True


def _make_active(session: Session, readers: list[tuple[bytes, bytes]], now: dt.datetime) -> None:
    week = Week.of(now.date())
    for start in range(0, len(readers), _BATCH_OF_HASHES):
        some = readers[start : start + _BATCH_OF_HASHES]
        lifted = sa.and_(
            suppressions.c.address_hash.in_([known for _, known in some]),
            suppressions.c.reason == SuppressionReason.BOUNCED.value,
        )
        gone = session.execute(suppressions.delete().where(lifted).returning(suppressions.c.address_hash)).scalars()
        for address_hash in gone:
            # As the departure was written down beside the database, so is this: a restored backup must know of both.
            session.depart(Departure(week, Step.LIFTED, address_hash))
        bounced = sa.and_(
            subscribers.c.id.in_([reader for reader, _ in some]),
            subscribers.c.status == SubscriberStatus.BOUNCED.value,
        )
        mailed_again = subscribers.update().where(bounced).values(status=SubscriberStatus.ACTIVE.value)
        chains = Counter(session.execute(mailed_again.returning(subscribers.c.chain)).scalars())
        for chain, count in chains.items():
            growth.note(session, week, chain, Change.LIFTED, count)
