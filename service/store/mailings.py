"""Mailings: made once per issue, moved from state to state by conditional updates, counted by their batches."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.domain.errors import NotFoundError
from service.domain.mailing import SETTLED, MailingState
from service.store.database import Session
from service.store.instants import loaded, loaded_or_none, stored
from service.store.tables import COUNTED, batches, issues, mailing_audience, mailings

PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class Mailing:
    """One run that sends one issue. `rate` is in mails per second; None leaves the installation's.

    `begun_anew_at` is when an operator last set it going again, `cancelled_at` when it was cancelled, until a retry is
    for everybody; None, too, where a program of before 0007 cancelled it.
    """

    id: int
    week: str
    state: MailingState
    rate: float | None
    audience: str
    actor: str
    reason: str | None
    release_at: dt.datetime | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    excluded: Mapping[str, int]
    slices: int | None
    planned_slices: int
    begun_anew_at: dt.datetime | None
    cancelled_at: dt.datetime | None

    @property
    def cancelled(self) -> bool:
        """Whether a cancel holds for whom nobody has named since: what is sent of it are those letters alone."""
        return self.state is MailingState.CANCELLED or self.cancelled_at is not None

    @property
    def whole(self) -> bool:
        """Whether all of its audience is planned."""
        return self.slices is not None and self.planned_slices >= self.slices

    @property
    def standing(self) -> str:
        """Its state, who asked for it and when, in words for somebody else who asks."""
        return f"{self.state.value}, asked for by {self.actor} on {self.created_at:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many deliveries are in each state."""

    pending: int = 0
    attempting: int = 0
    accepted: int = 0
    deferred: int = 0
    refused: int = 0
    uncertain: int = 0
    skipped: int = 0
    expired: int = 0

    @property
    def planned(self) -> int:
        """All of them."""
        return sum(self.as_dict().values())

    @property
    def unfinished(self) -> int:
        """Those that may still be mailed."""
        return self.pending + self.attempting + self.deferred

    def as_dict(self) -> dict[str, int]:
        """By state, in the order of the tables."""
        return {name: getattr(self, name) for name in COUNTED}

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in COUNTED))


_SELECT = sa.select(mailings, issues.c.week).join(issues, issues.c.id == mailings.c.issue_id)
_ONE = _SELECT.where(mailings.c.id == sa.bindparam("mailing"))
_IN_STATES = _SELECT.where(mailings.c.state.in_(sa.bindparam("states", expanding=True))).order_by(mailings.c.id)
_RATE = sa.select(mailings.c.rate).where(mailings.c.id == sa.bindparam("mailing"))
# When it began to be sent, or was last set going by an operator, who may have done so before it was planned.
BEGUN = sa.case(
    (mailings.c.begun_anew_at > mailings.c.started_at, mailings.c.begun_anew_at), else_=mailings.c.started_at
)
_ID = sa.select(mailings.c.id).where(mailings.c.id == sa.bindparam("mailing"))
# The weaker lock: a gate that makes a batch for readers who moved refers to the mailing, and must not wait.
_LOCKED_ID = _ID.with_for_update(key_share=True)


def of_row(row: Any) -> Mailing:
    """The mailing that a row of its table, with the issue's week, tells of."""
    return Mailing(
        row.id,
        row.week,
        MailingState(row.state),
        row.rate,
        row.audience,
        row.actor,
        row.reason,
        loaded_or_none(row.release_at),
        loaded(row.created_at),
        loaded_or_none(row.started_at),
        loaded_or_none(row.finished_at),
        row.excluded,
        row.slices,
        row.planned_slices,
        loaded_or_none(row.begun_anew_at),
        loaded_or_none(row.cancelled_at),
    )


def create(
    session: Session,
    week: str,
    *,
    state: MailingState,
    rate: float | None,
    audience: str,
    actor: str,
    release_at: dt.datetime | None,
    now: dt.datetime,
) -> int | None:
    """The id of a new production mailing of that issue; None where the issue has one already.

    Raises NotFoundError where there is no such issue.
    """
    issue_id = session.scalar(sa.select(issues.c.id).where(issues.c.week == week))
    if issue_id is None:
        raise NotFoundError(f"there is no issue {week}; see: tydzen issue list")
    insert = postgresql.insert if session.postgresql else sqlite.insert
    statement = insert(mailings).values(
        issue_id=issue_id,
        kind=PRODUCTION,
        state=state.value,
        rate=rate,
        audience=audience,
        actor=actor,
        release_at=None if release_at is None else stored(release_at),
        created_at=stored(now),
        excluded={},
    )
    made = session.scalar(statement.on_conflict_do_nothing().returning(mailings.c.id))
    return None if made is None else int(made)


def get(session: Session, mailing: int) -> Mailing:
    """That mailing; raises NotFoundError."""
    row = session.execute(_ONE, {"mailing": mailing}).first()
    if row is None:
        raise NotFoundError(f"there is no mailing {mailing}; see: tydzen mailing list")
    return of_row(row)


def of_issue(session: Session, week: str) -> Mailing | None:
    """The production mailing of that issue, if it has one."""
    row = session.execute(_SELECT.where(issues.c.week == week, mailings.c.kind == PRODUCTION)).first()
    return None if row is None else of_row(row)


def everyone(session: Session) -> list[Mailing]:
    """All mailings, the newest first."""
    return [of_row(row) for row in session.execute(_SELECT.order_by(mailings.c.id.desc()))]


def last_begun(session: Session) -> Mailing | None:
    """The one that began to be sent last; None where none ever was."""
    latest = _SELECT.where(mailings.c.started_at.is_not(None)).order_by(mailings.c.started_at.desc()).limit(1)
    row = session.execute(latest).first()
    return None if row is None else of_row(row)


def in_states(session: Session, states: Iterable[MailingState]) -> list[Mailing]:
    """The mailings in those states, the oldest first."""
    wanted = [state.value for state in states]
    return [of_row(row) for row in session.execute(_IN_STATES, {"states": wanted})]


def lock(session: Session, mailing: int) -> Mailing:
    """That mailing, which nobody else changes until this transaction ends; raises NotFoundError."""
    session.execute(_LOCKED_ID if session.postgresql else _ID, {"mailing": mailing})
    return get(session, mailing)


def begin_anew(session: Session, mailing: int, now: dt.datetime) -> None:
    """An operator has set the mailing going again: what waits in it has all its time before it."""
    session.execute(mailings.update().where(mailings.c.id == mailing).values(begun_anew_at=stored(now)))


def keep_cancelled(session: Session, found: Mailing) -> None:
    """A cancelled mailing is taken up for some alone: that it was cancelled is still to be known then.

    Whoever cancelled it may have been a program that did not write it down.
    """
    cancelled = sa.func.coalesce(mailings.c.cancelled_at, mailings.c.finished_at, mailings.c.created_at)
    session.execute(mailings.update().where(mailings.c.id == found.id).values(cancelled_at=cancelled))


def forget_cancelled(session: Session, found: Mailing) -> None:
    """The mailing is for everybody again."""
    session.execute(mailings.update().where(mailings.c.id == found.id).values(cancelled_at=None))


def move(
    session: Session,
    mailing: int,
    state: MailingState,
    *,
    now: dt.datetime,
    reason: str | None = None,
    from_state: MailingState | None = None,
) -> bool:
    """Whether the mailing went into `state` (from `from_state`, where that is given)."""
    values: dict[str, Any] = {"state": state.value, "reason": reason}
    if state is MailingState.SENDING:
        values["started_at"] = sa.func.coalesce(mailings.c.started_at, stored(now))
    if state is MailingState.CANCELLED:
        values["cancelled_at"] = stored(now)
    values["finished_at"] = stored(now) if state in SETTLED else None
    statement = mailings.update().where(mailings.c.id == mailing).values(**values)
    if from_state is not None:
        statement = statement.where(mailings.c.state == from_state.value)
    return session.execute(statement).rowcount == 1


def rate(session: Session, mailing: int) -> float | None:
    """The mailing's own rate at this moment, in mails per second; None leaves the installation's."""
    found: float | None = session.scalar(_RATE, {"mailing": mailing})
    return found


def set_rate(session: Session, mailing: int, rate: float | None) -> None:
    """Change the mailing's own rate, in mails per second; None gives way to the installation's."""
    session.execute(mailings.update().where(mailings.c.id == mailing).values(rate=rate))


def add_audience(session: Session, mailing: int, subscribers: Iterable[bytes]) -> None:
    """Restrict the mailing to these readers; saying one twice is the same as once."""
    rows = [{"mailing_id": mailing, "subscriber_id": subscriber} for subscriber in dict.fromkeys(subscribers)]
    if rows:
        insert = postgresql.insert if session.postgresql else sqlite.insert
        session.execute(insert(mailing_audience).on_conflict_do_nothing(), rows)


def counts(session: Session, mailing: int) -> dict[str, Counts]:
    """The deliveries of a mailing by chain and state: a sum over its batches, however many readers it has."""
    columns = [sa.func.coalesce(sa.func.sum(batches.c[name]), 0) for name in COUNTED]
    statement = sa.select(batches.c.chain, *columns).where(batches.c.mailing_id == mailing).group_by(batches.c.chain)
    return {row[0]: Counts(*(int(count) for count in list(row)[1:])) for row in session.execute(statement)}


def knows_audience(session: Session, mailing: int) -> bool:
    """Whether any reader is known whom the mailing is restricted to: they are forgotten some time after its end."""
    chosen = sa.exists().where(mailing_audience.c.mailing_id == mailing)
    return bool(session.scalar(sa.select(chosen)))
