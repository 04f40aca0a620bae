"""Threads beside the event loop: one for the database, so that a commit overlaps the sending; one for the pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Value = TypeVar("_Value")


class Offload:
    """Runs blocking calls of one process, each kind in order."""

    def __init__(self) -> None:
        self._database = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._pace = ThreadPoolExecutor(1, thread_name_prefix="pace")

    async def database(self, call: Callable[[], _Value]) -> _Value:
        """What `call` returns or raises, run in the database's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._database, call)

    async def pace(self, call: Callable[[], _Value]) -> _Value:
        """What `call` returns or raises, run in the pace's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pace, call)

    def close(self) -> None:
        """End the threads once they are idle."""
        self._database.shutdown()
        self._pace.shutdown()
