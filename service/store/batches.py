"""Batches: claimed with a lease and a fence, counted in place, rung again when nobody works on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.domain.mailing import MailingState
from service.store.database import Session
from service.store.instants import database_now
from service.store.tables import batches, deliveries, mailings

_SENDING = MailingState.SENDING.value


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch in one worker's hands: nothing it does counts once the fence has moved on."""

    batch: int
    mailing: int
    chain: str
    rendition: int | None
    fence: int
    provider: str = ""


def claim(session: Session, batch: int, *, sender: int, lease_seconds: float, now_ms: int) -> Claim | None:
    """Take the batch for `lease_seconds`, by the database's clock.

    None where it is closed, somebody else's, not due before `now_ms`, or of a mailing that is not sending.
    """
    values = {"batch": batch, "sender": sender, "lease": int(lease_seconds * 1000), "now": now_ms}
    row = session.execute(_claiming(postgresql=session.postgresql), values).first()
    if row is None:
        return None
    return Claim(batch, row.mailing_id, row.chain, row.rendition_id, row.fence, row.provider)


def take_due(session: Session, claimed: Claim, now_ms: int) -> list[int]:
    """The ids of the batch's pending deliveries, deferred ones that are due among them."""
    # Batches are locked before their deliveries, everywhere: a cancel does the same, and would deadlock otherwise.
    deferred = session.scalar(_HELD_DEFERRED, {"batch": claimed.batch})
    woken = session.execute(_WAKE, {"batch": claimed.batch, "now": now_ms}).rowcount if deferred else 0
    if woken:
        add_counts(session, claimed.batch, {DeliveryState.DEFERRED: -woken, DeliveryState.PENDING: woken})
    if session.postgresql:
        # Thousands of rows cost SQLAlchemy fifteen times as much as the driver one array.
        (row,) = session.rows(_PENDING_ARRAY, {"batch": claimed.batch})
        return row[0] or []
    return list(session.execute(_PENDING_IDS, {"batch": claimed.batch}).scalars())


# Statements of every batch are built once: to build one costs as much as to run it.
_BATCH = sa.bindparam("batch", type_=sa.BigInteger)
_NOW = sa.bindparam("now", type_=sa.BigInteger)
_LEASE = sa.bindparam("lease", type_=sa.BigInteger)
_WAKE = (
    deliveries.update()
    .where(
        deliveries.c.batch_id == _BATCH,
        deliveries.c.state == int(DeliveryState.DEFERRED),
        deliveries.c.due_at <= _NOW,
    )
    .values(state=int(DeliveryState.PENDING), due_at=None)
)
_PENDING_IDS = (
    sa.select(deliveries.c.id)
    .where(deliveries.c.batch_id == _BATCH, deliveries.c.state == int(DeliveryState.PENDING))
    .order_by(deliveries.c.id)
)
_PENDING_ARRAY = "SELECT array_agg(id ORDER BY id) FROM deliveries WHERE batch_id = %(batch)s AND state = 0"
assert int(DeliveryState.PENDING) == 0
_HOLD = sa.select(batches.c.id).where(batches.c.id == _BATCH).with_for_update()
_HELD_DEFERRED = sa.select(batches.c.deferred).where(batches.c.id == _BATCH).with_for_update()
_EARLIEST = (
    sa.select(sa.func.min(deliveries.c.due_at))
    .where(deliveries.c.batch_id == _BATCH, deliveries.c.state == int(DeliveryState.DEFERRED))
    .scalar_subquery()
)
_SETTLE = (
    batches.update()
    .where(batches.c.id == _BATCH)
    .values(
        open=batches.c.pending + batches.c.attempting + batches.c.deferred > 0,
        due_at=sa.case(
            (sa.and_(batches.c.pending == 0, batches.c.deferred > 0), sa.func.coalesce(_EARLIEST, 0)), else_=0
        ),
    )
)
_FREE = (
    batches.update()
    .where(batches.c.id == _BATCH, batches.c.fence == sa.bindparam("held_fence", type_=sa.Integer))
    .values(lease_until=0, rung_at=sa.case((batches.c.pending > 0, 0), else_=batches.c.rung_at))
    .returning(batches.c.open)
)
_OF_MAILING = batches.c.mailing_id == sa.bindparam("mailing", type_=sa.BigInteger)
_OPEN_COUNT = sa.select(sa.func.count()).where(_OF_MAILING, batches.c.open)
_UNFINISHED = (
    sa.select(mailings.c.id)
    .where(
        mailings.c.state.in_(sa.bindparam("states", expanding=True)),
        sa.exists().where(batches.c.mailing_id == mailings.c.id, batches.c.open),
    )
    .order_by(mailings.c.id)
)


@cache
def _claiming(*, postgresql: bool) -> sa.Executable:
    clock = database_now(postgresql=postgresql)
    return (
        batches.update()
        .where(
            batches.c.id == _BATCH,
            batches.c.open,
            batches.c.lease_until <= clock,
            batches.c.due_at <= _NOW,
            batches.c.not_before <= _NOW,
            sa.exists().where(mailings.c.id == batches.c.mailing_id, mailings.c.state == _SENDING),
        )
        .values(fence=batches.c.fence + 1, lease_until=clock + _LEASE, sender_id=sa.bindparam("sender"))
        .returning(batches.c.mailing_id, batches.c.chain, batches.c.rendition_id, batches.c.fence, batches.c.provider)
    )


@cache
def _renewing(*, postgresql: bool) -> sa.Executable:
    clock = database_now(postgresql=postgresql)
    return (
        batches.update()
        .where(
            batches.c.id == _BATCH,
            batches.c.fence == sa.bindparam("held_fence", type_=sa.Integer),
            batches.c.lease_until > clock,
            sa.exists().where(mailings.c.id == sa.bindparam("mailing"), mailings.c.state == _SENDING),
        )
        .values(lease_until=clock + _LEASE)
    )


@cache
def _counting(*labels: str) -> sa.Executable:
    changes = {label: batches.c[label] + sa.bindparam(f"{label}_more", type_=sa.Integer) for label in labels}
    return batches.update().where(batches.c.id == _BATCH).values(changes)


def hold(session: Session, batch: int) -> None:
    """Wait until no other transaction is changing the batch, and keep others from it. SQLite has one writer anyway."""
    if session.postgresql:
        session.execute(_HOLD, {"batch": batch})


def hold_all(session: Session, which: sa.ColumnElement[bool]) -> None:
    """As `hold`, for all of those batches in the order of their numbers, and for any made of them while it waits.

    From then on no other transaction makes one of them: whoever does holds the batch that its readers leave.
    """
    if not session.postgresql:
        return
    statement = sa.select(batches.c.id).where(which).order_by(batches.c.id).with_for_update()
    held: set[int] = set()
    # A statement that has waited sees rows change, and none that is new.
    while found := set(session.execute(statement).scalars()) - held:
        held |= found


def add_counts(session: Session, batch: int, deltas: Mapping[DeliveryState, int]) -> None:
    """Change the batch's counts by state, in the same transaction as its deliveries."""
    changes = {state.label: delta for state, delta in deltas.items() if delta}
    if changes:
        more = {f"{label}_more": delta for label, delta in changes.items()}
        session.execute(_counting(*changes), {"batch": batch, **more})


def set_rendition(session: Session, claimed: Claim, rendition: int) -> None:
    """Give a batch that was made for moved readers its rendition."""
    session.execute(batches.update().where(batches.c.id == claimed.batch).values(rendition_id=rendition))


def renew(session: Session, claimed: Claim, lease_seconds: float) -> bool:
    """Whether the lease still ran, of a mailing that is sending, and now runs for `lease_seconds`."""
    held = {"batch": claimed.batch, "held_fence": claimed.fence, "mailing": claimed.mailing}
    values = {**held, "lease": int(lease_seconds * 1000)}
    return session.execute(_renewing(postgresql=session.postgresql), values).rowcount == 1


def give_back(session: Session, claimed: Claim, *, not_before: int = 0) -> bool:
    """End the claim: close the batch where all its deliveries are final, else leave it due. True where it is closed.

    What is left to send may be rung for at once: its hint is used up. With `not_before`, in milliseconds since 1970,
    nobody may claim it earlier.
    """
    settle(session, [claimed.batch])
    freed = _FREE if not not_before else _FREE.values(not_before=not_before)
    row = session.execute(freed, {"batch": claimed.batch, "held_fence": claimed.fence}).first()
    return row is not None and not row.open


def settle(session: Session, changed: Sequence[int]) -> None:
    """Close those batches whose deliveries are all final, reopen the others, and set when each is due again."""
    for batch in changed:
        session.execute(_SETTLE, {"batch": batch})


def to_ring(
    session: Session, *, now_ms: int, quiet_seconds: float, limit: int, mailing: int | None = None
) -> list[int]:
    """Open, due, unclaimed batches of sending mailings that nobody rang within `quiet_seconds`, marked as rung."""
    chosen = _ringable(postgresql=session.postgresql, of_one=mailing is not None)
    values = {"now": now_ms, "quiet": int(quiet_seconds * 1000), "most": limit}
    if mailing is not None:
        values["mailing"] = mailing
    found = list(session.execute(chosen, values).scalars())
    if found:
        clock = database_now(postgresql=session.postgresql)
        session.execute(batches.update().where(batches.c.id.in_(found)).values(rung_at=clock))
    return found


@cache
def _ringable(*, postgresql: bool, of_one: bool) -> sa.Executable:
    quiet_since = database_now(postgresql=postgresql) - sa.bindparam("quiet", type_=sa.BigInteger)
    chosen = _claimable(postgresql=postgresql).where(batches.c.rung_at <= quiet_since)
    return (chosen.where(_OF_MAILING) if of_one else chosen).limit(sa.bindparam("most", type_=sa.Integer))


def claim_another(
    session: Session,
    *,
    sender: int,
    lease_seconds: float,
    now_ms: int,
    without: Iterable[str],
    slow: Iterable[int],
    beside: Iterable[int],
) -> Claim | None:
    """Take any batch that may be claimed, but of none of the providers in `without`; None where there is none.

    Nor one of the mailings in `slow`, which wait for rates of their own; nor one of `beside`, on which this process is
    at work: it may have lost the lease, and must not begin it again.
    """
    chosen = _another(postgresql=session.postgresql)
    left_out = {"without": sorted(without), "slow": sorted(slow), "beside": sorted(beside)}
    found = session.scalar(chosen, {"now": now_ms, **left_out})
    if found is None:
        return None
    return claim(session, int(found), sender=sender, lease_seconds=lease_seconds, now_ms=now_ms)


@cache
def _another(*, postgresql: bool) -> sa.Executable:
    others = batches.c.provider.not_in(sa.bindparam("without", expanding=True))
    unhindered = batches.c.mailing_id.not_in(sa.bindparam("slow", expanding=True))
    not_ours = batches.c.id.not_in(sa.bindparam("beside", expanding=True))
    return _claimable(postgresql=postgresql).where(others, unhindered, not_ours).limit(1)


def _claimable(*, postgresql: bool) -> sa.Select[int]:
    """The ids of open, due, unclaimed batches of sending mailings, so ordered that neighbours are taken far apart.

    Batches are numbered by slice, chain and provider. Multiplied by the golden ratio, numbers in a row are spread
    evenly over all there are, so that every provider is always among those in work.
    """
    chosen = (
        sa.select(batches.c.id)
        .join(mailings, mailings.c.id == batches.c.mailing_id)
        .where(
            mailings.c.state == _SENDING,
            batches.c.open,
            batches.c.lease_until <= database_now(postgresql=postgresql),
            batches.c.due_at <= _NOW,
            batches.c.not_before <= _NOW,
            batches.c.pending + batches.c.deferred > 0,
        )
        .order_by((batches.c.id % 1_000_000_000) * 2_654_435_769 % 4_294_967_296)
    )
    return chosen.with_for_update(of=batches, skip_locked=True) if postgresql else chosen


def forget_rings(session: Session, mailing: int) -> None:
    """Let every batch of the mailing be rung and claimed at once (after a resume or a retry)."""
    session.execute(batches.update().where(batches.c.mailing_id == mailing).values(rung_at=0, not_before=0))


def others_open(session: Session, mailing: int, *, now_ms: int) -> bool:
    """Whether a batch of the mailing is open that was not set aside because its edition cannot be printed."""
    set_aside = sa.and_(batches.c.rendition_id.is_(None), batches.c.not_before > now_ms)
    statement = sa.select(batches.c.id).where(batches.c.mailing_id == mailing, batches.c.open, ~set_aside)
    return session.execute(statement.limit(1)).first() is not None


def close_done(session: Session, mailing: int) -> None:
    """Close the batches of which every delivery is final: a worker may die between its last letter and giving back."""
    done = batches.c.pending + batches.c.attempting + batches.c.deferred == 0
    found = sa.and_(batches.c.mailing_id == mailing, batches.c.open, done)
    session.execute(batches.update().where(found).values(open=False, due_at=0))


def waiting_count(session: Session, mailing: int) -> int:
    """How many deliveries of the mailing's open batches are pending or deferred."""
    waiting = sa.func.coalesce(sa.func.sum(batches.c.pending + batches.c.deferred), 0)
    return int(session.scalar(sa.select(waiting).where(batches.c.mailing_id == mailing, batches.c.open)))


def open_count(session: Session, mailing: int) -> int:
    """How many batches of the mailing have deliveries that are not final."""
    return int(session.scalar(_OPEN_COUNT, {"mailing": mailing}))


def unfinished_mailings(session: Session, states: Collection[MailingState]) -> list[int]:
    """The mailings in these states that have open batches."""
    return list(session.execute(_UNFINISHED, {"states": [state.value for state in states]}).scalars())


def forget_ring(session: Session, batch: int) -> None:
    """Let the batch be rung at once: its hint came to a worker that had no place for it."""
    session.execute(batches.update().where(batches.c.id == batch).values(rung_at=0))


def let_go(session: Session, *, now_ms: int) -> None:
    """Let batches be claimed at once that were held back until later, but for those whose edition cannot be printed."""
    held = sa.and_(batches.c.open, batches.c.not_before > now_ms, batches.c.rendition_id.is_not(None))
    session.execute(batches.update().where(held).values(not_before=0, rung_at=0))


def held_back(session: Session, mailing: int, *, now_ms: int) -> bool:
    """Whether a batch of the mailing is held back until later."""
    held = sa.and_(batches.c.mailing_id == mailing, batches.c.open, batches.c.not_before > now_ms)
    return session.execute(sa.select(batches.c.id).where(held).limit(1)).first() is not None
