"""Statements that are transactions by themselves, asked by an event loop over a connection of its own; for PostgreSQL.

To ask in a thread beside the loop costs twice as much: for each answer the two change places several times.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, LiteralString

import psycopg
from sqlalchemy.engine import Engine

from service.store import database
from service.store.silence import LoopConnection, end_abandoned


class Alone:
    """Belongs to one database of one process; a loop that asks for the first time gets a connection.

    The connection is made as the `engine` makes its own, with the arguments in `named`, and begins with the statement
    `first`. `lost` is called for each that is found dead.
    """

    def __init__(
        self,
        engine: Engine,
        named: Mapping[str, Any],
        first: LiteralString,
        abandoned: set[int],
        lost: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._named = named
        self._first = first
        self._abandoned = abandoned
        self._lost = lost
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
        if self._connection is not None and time.monotonic() - self._used_at >= database.TRUSTED_SECONDS:
            with suppress(psycopg.Error):
                await self._connection.execute("SELECT 1")
            if self._connection.closed:
                self._drop()
        if self._connection is None:
            arguments, named = self._engine.dialect.create_connect_args(self._engine.url)
            wanted = {**named, **self._named, "autocommit": True}
            connection = await LoopConnection.connect(*arguments, **wanted)
            connection.abandoned = self._abandoned
            await connection.execute(self._first)
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        self.close()
        self._lost()
