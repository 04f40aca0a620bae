"""Sign-ups as they were posted: each is one new row with a sealed address, until a worker answers it."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass, field

import sqlalchemy as sa

from service.domain.chains import Chain
from service.store.database import Session
from service.store.instants import stored
from service.store.tables import signups

# A sign-up that was rung and still waits after so long: its hint is lost.
RING_QUIET_SECONDS = 60


@dataclass(frozen=True, slots=True)
class SignUp:
    """What somebody asked for; the address is as it was typed.

    With a `mover` it is a reader (of an id, at an epoch) who wants the mails at this address. `newest`: and the newest
    issue at once.
    """

    address: str = field(repr=False)
    chain: Chain
    text_version: int
    newest: bool = False
    mover: tuple[bytes, int] | None = None


def add(
    session: Session,
    address: str,
    chain: Chain,
    *,
    text_version: int,
    now: dt.datetime,
    newest: bool = False,
    mover: tuple[bytes, int] | None = None,
) -> int:
    """The id of a new row. Nothing is looked up: the work is the same for every address."""
    seal_id = os.urandom(16)
    values = {
        "seal_id": seal_id,
        "sealed": session.sealer.seal(seal_id, address),
        "chain": str(chain),
        "text_version": text_version,
        "due_at": stored(now) + RING_QUIET_SECONDS * 1000,
        "newest": newest,
        "reader_id": mover[0] if mover else None,
        "epoch": mover[1] if mover else None,
    }
    return int(session.scalar(signups.insert().values(values).returning(signups.c.id)))


def take(session: Session, signup: int) -> SignUp | None:
    """The sign-up, whose row is gone with this transaction; None where another took it.

    Raises SpoiledAddressError for one that does not open; the transaction stays usable, and the row goes.
    """
    row = session.execute(signups.delete().where(signups.c.id == signup).returning(signups)).one_or_none()
    if row is None:
        return None
    address = session.sealer.open(row.seal_id, row.sealed)
    mover = None if row.reader_id is None else (row.reader_id, row.epoch)
    return SignUp(address, Chain(tuple(row.chain.split(","))), row.text_version, row.newest, mover)


def due(session: Session, now: dt.datetime, *, limit: int = 50) -> list[int]:
    """The ids of sign-ups that wait for lack of a hint, oldest first; they count as rung."""
    chosen = sa.select(signups.c.id).where(signups.c.due_at <= stored(now)).order_by(signups.c.id).limit(limit)
    if session.postgresql:
        chosen = chosen.with_for_update(skip_locked=True)
    found = list(session.execute(chosen).scalars())
    if found:
        later = stored(now) + RING_QUIET_SECONDS * 1000
        session.execute(signups.update().where(signups.c.id.in_(found)).values(due_at=later))
    return found
