"""How a database that is away is waited for: as long as it takes, but for a worker that must stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from service import log
from service.clock import suspended_monotonic
from service.delivery.offload import Offload
from service.store import DatabaseAwayError

AWAY_SECONDS = 1.0
# A supervisor kills who does not end within some ten seconds.
_STOP_SECONDS = 3.0

_log = log.get("send")
_Value = TypeVar("_Value")


class Patience:
    """Belongs to one piece of work that waits for the database."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._stop_at: float | None = None

    def over(self) -> bool:
        """Whether to give up: some seconds after the worker was told to stop."""
        if not self._stopping():
            return False
        self._stop_at = self._stop_at or suspended_monotonic() + _STOP_SECONDS
        return suspended_monotonic() >= self._stop_at


async def until_there(offload: Offload, call: Callable[[], _Value], patience: Patience, **whose: int) -> _Value:
    """What `call` returns, run in the database's thread again and again while the database is away.

    It may run again after a commit that nobody knows of, so it must bear that. `whose` names the batch or the notice in
    the log. Raises DatabaseAwayError once patience is over.
    """
    while True:
        try:
            return await offload.database(call)
        except DatabaseAwayError as error:
            _log.warning("database-away", error=str(error), **whose)
            if patience.over():
                raise
        await asyncio.sleep(AWAY_SECONDS)
