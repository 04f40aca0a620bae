"""Issues that were mailed in a time which the database, set back by a restore, does not know of."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.store.database import Session
from service.store.engine_tables import lost_issues
from service.store.instants import database_now, loaded, stored


@dataclass(frozen=True, slots=True)
class LostIssue:
    """The week, and which host began to mail it when."""

    week: str
    host: str
    begun_at: dt.datetime


def add(session: Session, week: str, *, host: str, begun_at: int) -> bool:
    """Whether it was not known that this week's issue was lost at that time, in milliseconds, or later."""
    insert = postgresql.insert if session.postgresql else sqlite.insert
    clock = database_now(postgresql=session.postgresql)
    values = {"host": host, "begun_at": begun_at, "found_at": clock, "decided_at": None, "decided_by": None}
    statement = insert(lost_issues).values(week=week, **values)
    statement = statement.on_conflict_do_update(
        index_elements=[lost_issues.c.week], set_=values, where=lost_issues.c.begun_at < begun_at
    )
    return session.execute(statement.returning(lost_issues.c.week)).first() is not None


def undecided(session: Session) -> list[LostIssue]:
    """Those on which no operator has decided, by week."""
    statement = sa.select(lost_issues).where(lost_issues.c.decided_at.is_(None)).order_by(lost_issues.c.week)
    return [LostIssue(row.week, row.host, loaded(row.begun_at)) for row in session.execute(statement)]


def find(session: Session, week: str) -> LostIssue | None:
    """That week's, if nobody has decided on it."""
    return next((one for one in undecided(session) if one.week == week), None)


def decide(session: Session, week: str, *, actor: str, now: dt.datetime) -> bool:
    """Whether the week was undecided; from now on its issue may be sent to everybody again."""
    statement = lost_issues.update().where(lost_issues.c.week == week, lost_issues.c.decided_at.is_(None))
    return session.execute(statement.values(decided_at=stored(now), decided_by=actor)).rowcount == 1
