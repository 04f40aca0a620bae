"""Which databases this service speaks to, by their URLs."""

from __future__ import annotations

import difflib
from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from service.domain.errors import ConfigurationError


def checked_url(url: str) -> URL:
    """The parsed database URL; raises ConfigurationError for a database this service does not speak to."""
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigurationError(
            "TYDZEN_DATABASE_URL is not a database URL (postgresql+psycopg://… or sqlite:///…)"
        ) from None
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in {"postgresql+psycopg", "sqlite", "sqlite+pysqlite"}:
        raise ConfigurationError(
            f"TYDZEN_DATABASE_URL names {parsed.drivername}; use postgresql+psycopg://… or sqlite:///…"
        )
    if parsed.get_backend_name() == "postgresql":
        _require_known(parsed.query)
    return parsed


def _require_known(options: Collection[str]) -> None:
    """Raise ConfigurationError where an option is none of libpq's: the driver's own error would come with each use."""
    from psycopg import pq

    known = [one.keyword.decode() for one in pq.Conninfo.get_defaults()]
    for option in sorted(set(options).difference(known)):
        meant = difflib.get_close_matches(option, known, 1)
        # Of a password that was not encoded as URLs want it a part may have come here.
        named = option if meant else "of that name"
        mend = f"is {meant[0]} meant?" if meant else "see the parameters of libpq, and encode ? and @ in a password"
        raise ConfigurationError(f"TYDZEN_DATABASE_URL: PostgreSQL has no option {named}; {mend}")
