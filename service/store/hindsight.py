"""Letters that a database set back in time does not know of: found by their numbers, and written down again."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.delivery import DeliveryState
from service.store.arrays import array_literal
from service.store.batches import hold_all
from service.store.database import Session
from service.store.instants import database_now
from service.store.interventions import recount
from service.store.tables import batches, deliveries, meta, senders

_LOST_RANGE = "lost_deliveries"
# Other hosts may know of higher numbers than this one does, and each finds its own later.
_MARGIN = 10_000_000


@dataclass(frozen=True, slots=True)
class Unknown:
    """Attempts that the database does not know, by delivery; and deliveries that it does not have at all."""

    gated: Mapping[int, int]
    mailings: Mapping[int, int]
    missing: Sequence[int]


_KNOWN = "SELECT id, attempts, mailing_id FROM deliveries WHERE id {among}"
_POSTGRESQL_KNOWN = sa.text(_KNOWN.format(among="= ANY(CAST(:ids AS bigint[]))"))
_SQLITE_KNOWN = sa.text(_KNOWN.format(among="IN (SELECT value FROM json_each(:ids))"))


def unknown(session: Session, attempts: Mapping[int, int]) -> Unknown:
    """Which of these attempts, by delivery, the database knows nothing of. What was found lost before is not told."""
    wanted = array_literal(list(attempts)) if session.postgresql else json.dumps(list(attempts))
    known = _POSTGRESQL_KNOWN if session.postgresql else _SQLITE_KNOWN
    rows = {row.id: row for row in session.execute(known, {"ids": wanted})}
    gated = {number: attempts[number] for number, row in rows.items() if row.attempts < attempts[number]}
    missing = sorted(set(attempts) - set(rows))
    if missing:
        ranges = _lost_ranges(session)
        missing = [one for one in missing if not any(low <= one <= high for low, high in ranges)]
    return Unknown(gated, {number: rows[number].mailing_id for number in gated}, missing)


def gate_again(session: Session, gated: Mapping[int, int], *, sender: int, now_ms: int) -> set[int]:
    """Write down that these attempts, by delivery, were let out: they are `attempting`, whatever they were before.

    Returns the batches that were touched; settle them when the outcomes are recorded.
    """
    ids = list(gated)
    # Batches before their deliveries, as everywhere.
    hold_all(session, batches.c.id.in_(sa.select(deliveries.c.batch_id).where(deliveries.c.id.in_(ids))))
    by_attempt: dict[int, list[int]] = defaultdict(list)
    for number, attempt in gated.items():
        by_attempt[attempt].append(number)
    touched: set[int] = set()
    for attempt, numbers in by_attempt.items():
        statement = (
            deliveries.update()
            .where(deliveries.c.id.in_(numbers), deliveries.c.attempts < attempt)
            .values(
                state=int(DeliveryState.ATTEMPTING),
                attempts=attempt,
                sender_id=sender,
                reason=None,
                due_at=None,
                at=now_ms,
            )
            .returning(deliveries.c.batch_id)
        )
        touched.update(session.execute(statement).scalars())
    for batch in sorted(touched):
        recount(session, batch)
    return touched


def remember_sender(session: Session, sender: int, *, host: str, boot: str, settled: bool) -> bool:
    """Whether the database had forgotten the sender, or that it was settled; it knows again that there was one."""
    made = _remembering(on_postgresql=session.postgresql)
    if session.execute(made, {"sender": sender, "on_host": host, "of_boot": boot}).first() is not None:
        return settled
    return settled and session.scalar(_UNSETTLED, {"sender": sender, "on_host": host}) is not None


_UNSETTLED = sa.select(senders.c.id).where(
    senders.c.id == sa.bindparam("sender"), senders.c.host == sa.bindparam("on_host"), senders.c.settled_at.is_(None)
)


@cache
def _remembering(*, on_postgresql: bool) -> sa.Executable:
    insert = postgresql.insert if on_postgresql else sqlite.insert
    clock = database_now(postgresql=on_postgresql)
    values: dict[str, Any] = {
        "id": sa.bindparam("sender"),
        "host": sa.bindparam("on_host"),
        "boot": sa.bindparam("of_boot"),
        "relay": "",
        "started_at": clock,
        "seen_at": clock,
    }
    made = insert(senders).values(**values).on_conflict_do_nothing(index_elements=[senders.c.id])
    return made.returning(senders.c.id)


def highest_delivery(session: Session) -> int:
    """The highest number a delivery has."""
    return int(session.scalar(_HIGHEST))


_HIGHEST = sa.select(sa.func.coalesce(sa.func.max(deliveries.c.id), 0))


def _lost_ranges(session: Session) -> list[tuple[int, int]]:
    found = session.scalar(sa.select(meta.c.value).where(meta.c.key == _LOST_RANGE))
    return [(low, high) for low, high in json.loads(found)] if found else []


def set_numbers_apart(session: Session, low: int, known: int) -> None:
    """Give no delivery again a number from `low` to well beyond `known`: letters of a lost time bear them.

    They are in Message-IDs, envelope senders and journals, where one number must not mean two letters.
    """
    high = max(known, highest_delivery(session)) + _MARGIN
    ranges = [*_lost_ranges(session), (low, high)]
    session.execute(meta.delete().where(meta.c.key == _LOST_RANGE))
    session.execute(meta.insert().values(key=_LOST_RANGE, value=json.dumps(ranges)))
    if session.postgresql:
        session.execute(sa.text("SELECT setval(pg_get_serial_sequence('deliveries', 'id'), :high)"), {"high": high})
        return
    # SQLite counts on from the highest number there is: a row of no mailing holds the place.
    session.execute(
        deliveries.insert().values(
            id=high, mailing_id=0, batch_id=0, state=int(DeliveryState.SKIPPED), attempts=0, reason="set apart"
        )
    )
