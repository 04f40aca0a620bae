"""What happens to a pool's connections between two uses."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine

TRUSTED_SECONDS = 1.0  # for so long after its last use a connection is taken to be alive


def trusted(used_at: float) -> bool:
    """Whether a connection that was used at that time, by `time.monotonic`, is taken to be alive."""
    return time.monotonic() - used_at < TRUSTED_SECONDS


def close_what_comes_late(engine: Engine) -> None:
    """Close a connection that comes back when its pool was disposed of: it would stay open for nobody to use."""

    @event.listens_for(engine, "checkout")
    def note(_dbapi: Any, record: Any, _proxy: Any) -> None:
        record.info["pool"] = engine.pool

    @event.listens_for(engine, "checkin")
    def close(dbapi: Any, record: Any) -> None:
        if dbapi is not None and record.info.get("pool") is not engine.pool:
            record.close()


def ping_after_pause(engine: Engine) -> None:
    """Ask a connection that lay idle whether it still lives, and take a new one if not.

    SQLAlchemy's own pre-ping asks before every transaction, which doubles the round trips of a short one.
    """

    @event.listens_for(engine, "checkin")
    def note(_dbapi: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ask(dbapi: Any, record: Any, _proxy: Any) -> None:
        since = record.info.get("idle_since")
        if since is None or trusted(since):
            return
        try:
            engine.dialect.do_ping(dbapi)
        except engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.InvalidatePoolError from error
