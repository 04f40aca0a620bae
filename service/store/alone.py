"""Statements that are transactions by themselves, asked by an event loop over a connection of its own; for PostgreSQL.

To ask in a thread beside the loop costs twice as much: for each answer the two change places several times.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import psycopg

from service.store.silence import LoopConnection, end_abandoned


class Alone:
    """Belongs to one database of one process; a loop that asks for the first time gets a connection, by `connect`.

    `lost` is called for each that is found dead; `trusted` says whether one that was used last at that time, by
    `time.monotonic`, is taken to be alive.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[LoopConnection]],
        *,
        lost: Callable[[], None],
        trusted: Callable[[float], bool],
    ) -> None:
        self._connect = connect
        self._lost = lost
        self._trusted = trusted
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._turn = asyncio.Lock()
        self._connection: LoopConnection | None = None
        self._used_at = 0.0

    async def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement with `%(name)s` parameters; it is committed when this returns.

        Raises psycopg's errors. Of an error that closed the connection, or left it in the middle of an answer, nobody
        knows whether the statement was committed.
        """
        self._own()
        async with self._turn:
            connection = await self._alive()
            try:
                await end_abandoned(connection)
                # Prepared, so planned once; binary, because octets are not written out in hexadecimal then.
                cursor = await connection.execute(statement, parameters, prepare=True, binary=True)
                rows = await cursor.fetchall()
            except BaseException:
                if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    self._drop()
                raise
            self._used_at = time.monotonic()
            return rows

    def let_go(self) -> bool:
        """Close the connection unless it is in use; whether there was one to close.

        For the thread of its loop, or while that stands still.
        """
        if self._connection is None or self._turn.locked():
            return False
        self.close()
        return True

    def close(self) -> None:
        """Close the connection, if there is one; the next statement makes another."""
        connection, self._connection = self._connection, None
        # After a fork it is the parent's.
        if connection is not None and self._owner is not None and self._owner[0] == os.getpid():
            connection.pgconn.finish()

    def _own(self) -> None:
        owner = os.getpid(), asyncio.get_running_loop()
        if self._owner != owner:
            self.close()
            self._owner, self._turn = owner, asyncio.Lock()

    async def _alive(self) -> LoopConnection:
        """The connection there is, asked whether it lives if it lay idle, or a new one."""
        if self._connection is not None and not self._trusted(self._used_at):
            with suppress(psycopg.Error):
                await self._connection.execute("SELECT 1")
            if self._connection.closed:
                self._drop()
        if self._connection is None:
            self._connection = await self._connect()
        return self._connection

    def _drop(self) -> None:
        self.close()
        self._lost()
