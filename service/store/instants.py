"""Instants as the tables hold them: milliseconds since 1970, UTC."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def stored(instant: dt.datetime) -> int:
    """The aware `instant` in milliseconds since 1970."""
    return (instant - _EPOCH) // dt.timedelta(milliseconds=1)


def loaded(milliseconds: int) -> dt.datetime:
    """The instant, aware, in UTC."""
    return _EPOCH + dt.timedelta(milliseconds=milliseconds)


def loaded_or_none(milliseconds: int | None) -> dt.datetime | None:
    """As `loaded`, for a column that may be empty."""
    return None if milliseconds is None else loaded(milliseconds)


def database_now(*, postgresql: bool) -> sa.ColumnElement[int]:
    """The database's own clock in milliseconds, as an expression: leases of all hosts are compared by this one."""
    if postgresql:
        return sa.literal_column("(extract(epoch FROM clock_timestamp()) * 1000)::bigint", sa.BigInteger)
    return sa.literal_column("CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)", sa.BigInteger)
