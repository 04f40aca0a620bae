"""Notices: single transactional mails, each made once, claimed by one worker at a time, decided as deliveries are.

An address is kept, sealed, only as long as its mail may still have to be written, and so is whose notice it is and the
time: of a settled one nothing is left but what it was about, by an id that nothing else knows for long, and the day.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.delivery import FINAL, DeliveryState, SkipReason
from service.log import cut_addresses
from service.store.addressees import READER, hindrance
from service.store.database import Session
from service.store.instants import database_now, loaded, stored
from service.store.tables import notices

# A notice that was rung and is still not done after so long: its hint is lost.
RING_QUIET_SECONDS = 60
_REASON_LIMIT = 200
_PENDING, _ATTEMPTING, _DEFERRED, _UNCERTAIN = (
    int(state)
    for state in (DeliveryState.PENDING, DeliveryState.ATTEMPTING, DeliveryState.DEFERRED, DeliveryState.UNCERTAIN)
)
_WIPED = FINAL - {DeliveryState.UNCERTAIN}
_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice in one worker's hands until the lease ends: nothing it does counts once the fence has moved on."""

    id: int
    fence: int
    kind: str
    language: str
    parameters: Mapping[str, Any] = field(repr=False)
    attempts: int
    made_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Gated:
    """A notice that may be written now; the address is as it was given."""

    attempt: int
    address: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenNotice:
    """An attempt whose outcome the database does not know."""

    id: int
    attempt: int
    state: DeliveryState
    made_at: dt.datetime


def add(
    session: Session,
    kind: str,
    *,
    once: str,
    address: str,
    language: str,
    parameters: Mapping[str, Any],
    now: dt.datetime,
    reader: bytes | None = None,
) -> int | None:
    """The id of a new notice; None where there was one of that `once` before, which outlives the rest and names nobody.

    `parameters` is what its templates name, as JSON; whatever looks like an address is cut out of it. One that is a
    `reader`'s is forgotten with the reader. Ring SEND_NOTICE after commit: the sweep does so only a minute later.
    """
    seal_id = os.urandom(16)
    insert = postgresql.insert if session.postgresql else sqlite.insert
    statement = insert(notices).values(
        seal_id=seal_id,
        kind=kind,
        once=once,
        sealed=session.sealer.seal(seal_id, address),
        language=language,
        parameters=_without_addresses(dict(parameters)) | ({READER: reader.hex()} if reader else {}),
        state=_PENDING,
        due_at=stored(now),
        made_at=stored(now),
        rung_at=stored(now),
    )
    made = session.scalar(statement.on_conflict_do_nothing().returning(notices.c.id))
    return None if made is None else int(made)


def claim(session: Session, notice: int, *, sender: int, lease_seconds: float) -> Notice | None:
    """Take the notice for `lease_seconds`, by the database's clock; None where it is not pending, or somebody's."""
    clock = database_now(postgresql=session.postgresql)
    statement = (
        notices.update()
        .where(notices.c.id == notice, notices.c.state == _PENDING, notices.c.lease_until <= clock)
        .values(fence=notices.c.fence + 1, lease_until=clock + int(lease_seconds * 1000), sender_id=sender)
        .returning(notices)
    )
    row = session.execute(statement).one_or_none()
    if row is None:
        return None
    return Notice(row.id, row.fence, row.kind, row.language, row.parameters, row.attempts, loaded(row.made_at))


def pass_gate(session: Session, held: Notice, *, sender: int, now: dt.datetime) -> Gated | SkipReason | None:
    """Mark the notice as being attempted by `sender` and return whom to mail.

    None, and nothing changes, where it is not ours. Where its reader must not get it any more (`addressees`), it is
    settled as skipped, as no attempt, and the reason is returned.
    """
    clock = database_now(postgresql=session.postgresql)
    statement = (
        notices.update()
        .where(_held(held), notices.c.state == _PENDING, notices.c.lease_until > clock)
        .values(state=_ATTEMPTING, attempts=notices.c.attempts + 1, sender_id=sender)
        .returning(notices.c.attempts, notices.c.seal_id, notices.c.sealed)
    )
    row = session.execute(statement).one_or_none()
    if row is None:
        return None
    address = session.sealer.open(row.seal_id, row.sealed)
    # Asked after the row is ours, so of what was committed up to now.
    reason = hindrance(session, held.kind, held.parameters, address, now)
    if reason is None:
        return Gated(row.attempts, address)
    values = {"attempts": row.attempts - 1, "lease_until": 0, **_skipped(reason)}
    session.execute(notices.update().where(_held(held)).values(values))
    return reason


def still_open(session: Session, held: Notice, attempt: int, *, now: dt.datetime) -> bool:
    """Whether a notice whose gate grew old may still be written: everything the gate asked holds now, too."""
    statement = sa.select(notices.c.seal_id, notices.c.sealed).where(
        _held(held), notices.c.state == _ATTEMPTING, notices.c.attempts == attempt
    )
    row = session.execute(statement).one_or_none()
    if row is None:
        return False
    address = session.sealer.open(row.seal_id, row.sealed)
    return hindrance(session, held.kind, held.parameters, address, now) is None


def give_back(
    session: Session, held: Notice, state: DeliveryState, *, due_at: dt.datetime, reason: str | None = None
) -> bool:
    """Whether the notice was still ours, not attempted, and is free again: pending or deferred until `due_at`."""
    statement = notices.update().where(_held(held), notices.c.state == _PENDING)
    return _settle(session, statement, state, due_at, reason)


def take_back(session: Session, held: Notice, *, due_at: dt.datetime) -> None:
    """Undo a gate of which nobody knows whether it was committed, and after which nothing was written."""
    statement = notices.update().where(_held(held), notices.c.state.in_((_PENDING, _ATTEMPTING)))
    _settle(session, statement, DeliveryState.PENDING, due_at, None)


def record(
    session: Session,
    notice: int,
    attempt: int,
    state: DeliveryState,
    *,
    due_at: dt.datetime,
    reason: str | None = None,
) -> bool:
    """Write what became of an attempt that was open until now (attempting, or uncertain); False where it was not.

    `due_at` is when a pending or deferred one is rung again.
    """
    statement = notices.update().where(
        notices.c.id == notice,
        notices.c.attempts == attempt,
        notices.c.state.in_((_ATTEMPTING, _UNCERTAIN)),
    )
    return _settle(session, statement, state, due_at, reason)


def _settle(
    session: Session, statement: sa.Update, state: DeliveryState, due_at: dt.datetime, reason: str | None
) -> bool:
    values: dict[str, Any] = {
        "state": int(state),
        "due_at": stored(due_at),
        "lease_until": 0,
        "rung_at": 0,
        "reason": None if reason is None else cut_addresses(reason)[:_REASON_LIMIT],
    }
    if state in _WIPED:
        values |= _wiped(due_at=stored(due_at))
    return session.execute(statement.values(**values)).rowcount == 1


def _skipped(reason: SkipReason) -> dict[str, Any]:
    return {"state": int(DeliveryState.SKIPPED), "reason": reason.value, **_wiped(due_at=notices.c.due_at)}


def _wiped(*, due_at: int | sa.ColumnElement[int]) -> dict[str, Any]:
    # To the day: when somebody signed up, asked or left to the minute is kept nowhere else.
    day = notices.c.made_at - notices.c.made_at % _DAY_MS
    return {"sealed": b"", "parameters": {}, "made_at": day, "due_at": due_at - due_at % _DAY_MS, "rung_at": 0}


def forget_letter(session: Session, notice: int, attempt: int, *, sender: int, written_ms: int) -> bool:
    """Whether the notice knew nothing of an attempt that was written at that time, by the database's clock.

    Then it is uncertain.

    A notice that was made later bears the number of one that a database set back in time has lost.
    """
    statement = notices.update().where(
        notices.c.id == notice,
        notices.c.attempts < attempt,
        notices.c.made_at <= written_ms,
        notices.c.state.in_((_PENDING, _DEFERRED)),
    )
    values = {"state": _UNCERTAIN, "attempts": attempt, "sender_id": sender, "lease_until": 0}
    return session.execute(statement.values(**values, reason="restored backup")).rowcount == 1


def due(session: Session, now: dt.datetime, *, limit: int = 50) -> list[int]:
    """The ids of notices to ring: pending ones nobody holds and rang lately, deferred ones whose time has come.

    They count as rung, and the deferred ones are pending; since when they have been due stays as it is.
    """
    clock = database_now(postgresql=session.postgresql)
    chosen = (
        sa.select(notices.c.id)
        .where(
            notices.c.state.in_((_PENDING, _DEFERRED)),
            notices.c.due_at <= stored(now),
            notices.c.rung_at <= stored(now) - RING_QUIET_SECONDS * 1000,
            notices.c.lease_until <= clock,
        )
        .order_by(notices.c.due_at)
        .limit(limit)
    )
    if session.postgresql:
        chosen = chosen.with_for_update(skip_locked=True)
    found = list(session.execute(chosen).scalars())
    if found:
        statement = notices.update().where(notices.c.id.in_(found))
        session.execute(statement.values(state=_PENDING, rung_at=stored(now)))
    return found


def forget(session: Session, reader: bytes) -> None:
    """Mail nothing more to a reader, and keep no address of one: what is still heard of an attempt counts no more.

    Settled notices say nothing of a reader anyway.
    """
    session.execute(notices.update().where(_unsettled(reader)).values(_skipped(SkipReason.ERASED)))


def unsettled(session: Session, reader: bytes) -> list[tuple[str, DeliveryState, dt.date]]:
    """Kind, state and day of the notices that still name a reader, in the order in which they were made."""
    statement = sa.select(notices.c.kind, notices.c.state, notices.c.made_at).where(_unsettled(reader))
    rows = session.execute(statement.order_by(notices.c.id))
    return [(row.kind, DeliveryState(row.state), loaded(row.made_at).date()) for row in rows]


def _unsettled(reader: bytes) -> sa.ColumnElement[bool]:
    states = (_PENDING, _ATTEMPTING, _DEFERRED, _UNCERTAIN)
    return sa.and_(notices.c.state.in_(states), notices.c.parameters[READER].as_string() == reader.hex())


def hasten(session: Session, now: dt.datetime) -> None:
    """Let all deferred notices be rung at once."""
    session.execute(notices.update().where(notices.c.state == _DEFERRED).values(due_at=stored(now)))


def open_attempts(session: Session, sender: int) -> list[OpenNotice]:
    """The attempts of that sender which are attempting, or uncertain because nobody knew better."""
    statement = sa.select(notices.c.id, notices.c.attempts, notices.c.state, notices.c.made_at).where(
        notices.c.sender_id == sender, notices.c.state.in_((_ATTEMPTING, _UNCERTAIN))
    )
    return [
        OpenNotice(row.id, row.attempts, DeliveryState(row.state), loaded(row.made_at))
        for row in session.execute(statement.order_by(notices.c.id))
    ]


def prune(session: Session, before: dt.datetime) -> int:
    """Forget the notices that were made before and need nothing more; how many."""
    return session.execute(notices.delete().where(_old(before))).rowcount


def old(session: Session, before: dt.datetime) -> int:
    """How many `prune` would forget."""
    return int(session.scalar(sa.select(sa.func.count()).select_from(notices).where(_old(before))))


def _old(before: dt.datetime) -> sa.ColumnElement[bool]:
    return sa.and_(notices.c.made_at < stored(before), notices.c.state.in_([int(state) for state in FINAL]))


def _held(held: Notice) -> sa.ColumnElement[bool]:
    return sa.and_(notices.c.id == held.id, notices.c.fence == held.fence)


def _without_addresses(value: Any) -> Any:
    if isinstance(value, str):
        return cut_addresses(value)
    if isinstance(value, Mapping):
        return {key: _without_addresses(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_addresses(one) for one in value]
    return value
