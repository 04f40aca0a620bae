"""Subscribers: found by the keyed hash of their address, which is sealed; opening one is an explicit act."""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from service.domain.chains import Chain
from service.domain.growth import Change, change_of
from service.domain.subscriber import SubscriberStatus, public_id
from service.domain.weeks import Week
from service.store import growth
from service.store.database import Session, translated
from service.store.engine_tables import bounces
from service.store.errors import DuplicateError
from service.store.hashes import of_hashes
from service.store.provider_keys import provider_of_address
from service.store.sealing import Sealer
from service.store.tables import confirmations, deliveries, mailing_audience, mailings, requests, signups, subscribers

_SHOWN = sa.select(*(column for column in subscribers.c if column.name != "sealed"))
_INSERTED = ("id", "address_hash", "sealed", "chain", "status", "consent", "joined_week", "provider")
_values = attrgetter(*_INSERTED)
_POSTGRESQL_INSERT = sa.text(
    """
    INSERT INTO subscribers (id, address_hash, sealed, chain, status, consent, joined_week, provider)
    SELECT * FROM unnest(CAST(:id AS bytea[]), CAST(:address_hash AS bytea[]), CAST(:sealed AS bytea[]),
        CAST(:chain AS text[]), CAST(:status AS text[]), CAST(:consent AS text[]), CAST(:joined_week AS text[]),
        CAST(:provider AS text[]))
    ON CONFLICT (address_hash) DO NOTHING
    """
)
_SQLITE_INSERT = (
    "INSERT INTO subscribers (id, address_hash, sealed, chain, status, consent, joined_week, provider) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (address_hash) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Subscriber:
    """One reader, without the address: that is opened by `address` alone."""

    id: bytes
    chain: Chain
    status: SubscriberStatus
    epoch: int
    consent: str | None
    joined_week: Week
    address_hash: bytes = field(repr=False)
    text_only: bool = False
    # The day from which mails come again.
    paused_until: dt.date | None = None

    @property
    def public_id(self) -> str:
        """The id operators see, `s_…`."""
        return public_id(self.id)


@dataclass(frozen=True, slots=True)
class NewSubscriber:
    """A row made and sealed, but not yet inserted; see `prepared`."""

    id: bytes
    address_hash: bytes = field(repr=False)
    sealed: bytes = field(repr=False)
    chain: str
    status: SubscriberStatus
    consent: str | None
    joined_week: str
    provider: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What an import needs to know of a reader who is there already."""

    id: bytes
    status: SubscriberStatus


@dataclass(frozen=True, slots=True)
class Count:
    """How many readers have one status and one chain."""

    status: SubscriberStatus
    chain: str
    readers: int


def prepared(
    sealer: Sealer,
    address: str,
    chain: Chain,
    *,
    status: SubscriberStatus,
    consent: str | None,
    week: Week,
    address_hash: bytes | None = None,
) -> NewSubscriber:
    """A new row for `address`, which is sealed as it was typed; touches no database.

    The id is random (UUIDv4) and made before the insert: it is bound into the sealed address, and tells no time.
    """
    row_id = _random_id()
    return NewSubscriber(
        row_id,
        address_hash or sealer.address_hash(address),
        sealer.seal(row_id, address),
        str(chain),
        status,
        consent,
        str(week),
        provider_of_address(sealer, address),
    )


def add(
    session: Session,
    address: str,
    chain: Chain,
    *,
    status: SubscriberStatus,
    consent: str | None,
    week: Week,
) -> Subscriber:
    """Insert a reader. Raises DuplicateError where the address is there already; the transaction stays usable."""
    row = prepared(session.sealer, address, chain, status=status, consent=consent, week=week)
    if insert(session, [row], week=week) == 0:
        raise DuplicateError("this address is a subscriber already")
    return Subscriber(row.id, chain, status, 0, consent, week, row.address_hash)


def insert(session: Session, rows: Sequence[NewSubscriber], *, week: Week) -> int:
    """Insert many at once and return how many went in: an address that somebody else added meanwhile stays theirs.

    The active ones count as added in `week`, the present one, whenever they joined.
    """
    if not rows:
        return 0
    inserted = _insert(session, rows)
    _note_added(session, rows if inserted == len(rows) else _present(session, rows), week)
    return inserted


def _insert(session: Session, rows: Sequence[NewSubscriber]) -> int:
    # In the order of the hash, so that pages of the index are visited once and not at random.
    ordered = sorted(rows, key=lambda row: row.address_hash)
    if session.postgresql:
        columns = zip(*(_values(row) for row in ordered), strict=True)
        arrays = {name: list(column) for name, column in zip(_INSERTED, columns, strict=True)}
        return session.execute(_POSTGRESQL_INSERT, arrays).rowcount
    with translated():
        return session.connection.exec_driver_sql(_SQLITE_INSERT, [_values(row) for row in ordered]).rowcount


def _present(session: Session, rows: Sequence[NewSubscriber]) -> list[NewSubscriber]:
    """Those that went in: their ids are new."""
    found = of_hashes(session, "SELECT id FROM subscribers WHERE id", [row.id for row in rows])
    present = {row_id for (row_id,) in found}
    return [row for row in rows if row.id in present]


def _note_added(session: Session, rows: Sequence[NewSubscriber], week: Week) -> None:
    added = Counter(row.chain for row in rows if row.status is SubscriberStatus.ACTIVE)
    for chain, readers in added.items():
        growth.note(session, week, chain, Change.ADDED, readers)


def get(session: Session, row_id: bytes) -> Subscriber | None:
    """The reader of that id; None where there is none (any more)."""
    return _one(session, _SHOWN.where(subscribers.c.id == row_id))


def find(session: Session, address: str) -> Subscriber | None:
    """The reader of that address; raises InvalidInputError where it is no address at all."""
    return find_hash(session, session.sealer.address_hash(address))


def find_hash(session: Session, address_hash: bytes) -> Subscriber | None:
    """The reader whose address has that keyed hash."""
    return _one(session, _SHOWN.where(subscribers.c.address_hash == address_hash))


def standings(session: Session, hashes: Collection[bytes]) -> dict[bytes, Standing]:
    """Those of many addresses, by their hashes, that are readers already."""
    rows = of_hashes(session, "SELECT address_hash, id, status FROM subscribers WHERE address_hash", hashes)
    return {address_hash: Standing(row_id, SubscriberStatus(status)) for address_hash, row_id, status in rows}


def address(session: Session, subscriber: Subscriber) -> str:
    """The reader's address as it was typed. The use-case that calls this owes the audit log an entry."""
    sealed = session.scalar(sa.select(subscribers.c.sealed).where(subscribers.c.id == subscriber.id))
    return session.sealer.open(subscriber.id, sealed)


def every_address(session: Session, status: SubscriberStatus | None = None) -> Iterator[tuple[Subscriber, str]]:
    """Every reader (of one status) with the address, as a stream; the use-case owes the audit log an entry.

    In the order of the random ids: the order of the table would tell who came before whom.
    """
    statement = sa.select(subscribers).order_by(subscribers.c.id)
    if status is not None:
        statement = statement.where(subscribers.c.status == status.value)
    unseal = session.sealer.open
    for row in session.stream(statement):
        yield _subscriber(row), unseal(row.id, row.sealed)


def set_chain(session: Session, row_id: bytes, chain: Chain, *, week: Week) -> None:
    """Change what the reader accepts; a mailing that runs moves the reader to the other edition."""
    before = _held(session, row_id)
    if before is None:
        return
    session.execute(subscribers.update().where(subscribers.c.id == row_id).values(chain=str(chain)))
    _note_chain(session, before, chain, week)


def _note_chain(session: Session, before: Any, chain: Chain, week: Week) -> None:
    if before.status == SubscriberStatus.ACTIVE.value and before.chain != str(chain):
        growth.note(session, week, before.chain, Change.CHANGED, -1)
        growth.note(session, week, str(chain), Change.CHANGED)


def _held(session: Session, row_id: bytes) -> Any:
    """Status and chain of a reader, which nobody else changes until the commit; None where there is none."""
    statement = sa.select(subscribers.c.status, subscribers.c.chain).where(subscribers.c.id == row_id)
    return session.execute(statement.with_for_update(key_share=True) if session.postgresql else statement).first()


def set_text_only(session: Session, row_id: bytes, *, text_only: bool) -> None:
    """Have the reader mailed text alone, or both forms; a mailing that runs moves the reader, as `set_chain` does."""
    session.execute(subscribers.update().where(subscribers.c.id == row_id).values(text_only=text_only))


def set_pause(session: Session, row_id: bytes, until: dt.date | None) -> None:
    """Have nothing mailed to the reader before that day (UTC)."""
    day = None if until is None else until.isoformat()
    session.execute(subscribers.update().where(subscribers.c.id == row_id).values(paused_until=day))


def forget_pauses(session: Session, today: dt.date) -> int:
    """Keep nothing of pauses that are over: they would tell when somebody was away. How many there were."""
    return session.execute(subscribers.update().where(_over(today)).values(paused_until=None)).rowcount


def past_pauses(session: Session, today: dt.date) -> int:
    """How many `forget_pauses` would forget."""
    return int(session.scalar(sa.select(sa.func.count()).select_from(subscribers).where(_over(today))))


def _over(today: dt.date) -> sa.ColumnElement[bool]:
    return subscribers.c.paused_until <= today.isoformat()


def move(session: Session, reader: Subscriber, address: str) -> None:
    """Give the reader another address, which no other reader has.

    The epoch grows: older preference links fall, and what is still said of the old address is not said of this one.
    """
    values = {
        "address_hash": session.sealer.address_hash(address),
        "sealed": session.sealer.seal(reader.id, address),
        "provider": provider_of_address(session.sealer, address),
        "epoch": subscribers.c.epoch + 1,
    }
    session.execute(subscribers.update().where(subscribers.c.id == reader.id).values(values))
    session.execute(bounces.delete().where(bounces.c.subscriber_id == reader.id))


def set_status(
    session: Session,
    row_id: bytes,
    status: SubscriberStatus,
    *,
    week: Week,
    unless: Collection[SubscriberStatus] = (),
) -> bool:
    """Change where the reader stands; False where nothing changed: no such reader, or in a status of `unless`.

    Who is active no more, or again, is counted in `week`, the present one.
    """
    before = _held(session, row_id)
    if before is None or SubscriberStatus(before.status) in {status, *unless}:
        return False
    session.execute(subscribers.update().where(subscribers.c.id == row_id).values(status=status.value))
    change = change_of(SubscriberStatus(before.status), status)
    if change is not None:
        growth.note(session, week, before.chain, change)
    return True


def activate(session: Session, row_id: bytes, chain: Chain, *, consent: str, week: Week) -> None:
    """Make an active reader of one who confirmed, with that chain; the evidence takes the place of any older one.

    Nothing else that the reader once chose holds on: mails come at once, and in both forms.
    """
    before = _held(session, row_id)
    if before is None:
        return
    values = {
        "status": SubscriberStatus.ACTIVE.value,
        "chain": str(chain),
        "consent": consent,
        "joined_week": str(week),
        "paused_until": None,
        "text_only": False,
    }
    session.execute(subscribers.update().where(subscribers.c.id == row_id).values(values))
    # A mail has arrived there: what was refused before says nothing any more.
    session.execute(bounces.delete().where(bounces.c.subscriber_id == row_id))
    if before.status == SubscriberStatus.ACTIVE.value:
        _note_chain(session, before, chain, week)
    else:
        growth.note(session, week, str(chain), Change.CONFIRMED)


def erase(session: Session, row_id: bytes, *, week: Week) -> bool:
    """Remove the reader; deliveries stay for the accounting and name nobody. False where there is no such reader.

    An active one counts as left in `week`, the present one.
    """
    # By mailing, because there is no index over the reader alone.
    every_mailing = sa.select(mailings.c.id)
    named = sa.and_(deliveries.c.mailing_id.in_(every_mailing), deliveries.c.subscriber_id == row_id)
    session.execute(deliveries.update().where(named).values(subscriber_id=None))
    chosen = sa.and_(mailing_audience.c.mailing_id.in_(every_mailing), mailing_audience.c.subscriber_id == row_id)
    session.execute(mailing_audience.delete().where(chosen))
    session.execute(bounces.delete().where(bounces.c.subscriber_id == row_id))
    session.execute(requests.delete().where(requests.c.subscriber_id == row_id))
    for wishes in (signups, confirmations):
        session.execute(wishes.delete().where(wishes.c.reader_id == row_id))
    statement = subscribers.delete().where(subscribers.c.id == row_id)
    gone = session.execute(statement.returning(subscribers.c.status, subscribers.c.chain)).first()
    if gone is None:
        return False
    change = change_of(SubscriberStatus(gone.status), None)
    if change is not None:
        growth.note(session, week, gone.chain, change)
    return True


def active(session: Session) -> dict[str, int]:
    """How many active readers there are, by chain."""
    statement = (
        sa.select(subscribers.c.chain, sa.func.count().label("readers"))
        .where(subscribers.c.status == SubscriberStatus.ACTIVE.value)
        .group_by(subscribers.c.chain)
        .order_by(subscribers.c.chain)
    )
    return {row.chain: row.readers for row in session.execute(statement)}


def counts(session: Session) -> list[Count]:
    """How many readers there are, by status and chain."""
    statement = (
        sa.select(subscribers.c.status, subscribers.c.chain, sa.func.count().label("readers"))
        .group_by(subscribers.c.status, subscribers.c.chain)
        .order_by(subscribers.c.status, subscribers.c.chain)
    )
    return [Count(SubscriberStatus(row.status), row.chain, row.readers) for row in session.execute(statement)]


def _random_id() -> bytes:
    """A UUIDv4, as `uuid.uuid4().bytes` makes it in four times the time."""
    octets = bytearray(os.urandom(16))
    octets[6] = octets[6] & 0x0F | 0x40
    octets[8] = octets[8] & 0x3F | 0x80
    return bytes(octets)


def _one(session: Session, statement: sa.Select[Any]) -> Subscriber | None:
    row = session.execute(statement).one_or_none()
    return None if row is None else _subscriber(row)


def _subscriber(row: Any) -> Subscriber:
    return Subscriber(
        id=row.id,
        chain=Chain(tuple(row.chain.split(","))),
        status=SubscriberStatus(row.status),
        epoch=row.epoch,
        consent=row.consent,
        joined_week=Week.parse(row.joined_week),
        address_hash=row.address_hash,
        text_only=row.text_only,
        paused_until=None if row.paused_until is None else dt.date.fromisoformat(row.paused_until),
    )
