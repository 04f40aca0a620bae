"""Threads beside the event loop: one for the database, so that a commit overlaps the sending; one for the pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.store import DatabaseAwayError

_Value = TypeVar("_Value")


class Offload:
    """Runs blocking calls of one process, each kind in order.

    `database_away` is called in the loop when one of the database's met that.
    """

    def __init__(self, database_away: Callable[[], object] = lambda: None) -> None:
        self._database_away = database_away
        self._database = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._pace = ThreadPoolExecutor(1, thread_name_prefix="pace")

    async def database(self, call: Callable[[], _Value]) -> _Value:
        """What `call` returns or raises, run in the database's thread."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._database, call)
        except DatabaseAwayError:
            self._database_away()
            raise

    async def pace(self, call: Callable[[], _Value]) -> _Value:
        """What `call` returns or raises, run in the pace's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pace, call)

    def close(self) -> None:
        """End the threads once they are idle."""
        self._database.shutdown()
        self._pace.shutdown()
