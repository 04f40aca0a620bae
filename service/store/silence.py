"""A PostgreSQL that falls silent: how that is noticed, and how a connection to it is given up.

The kernel notices a dead machine and a cut line. Of a server whose processes stand still on a machine that is alive
(frozen, stopped, out of memory) it goes on confirming all that is sent, so whoever waits has to ask by himself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import event
from sqlalchemy.engine import Connection as EngineConnection
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InvalidatePoolError

QUIET_SECONDS = 20.0  # without an octet from the server, after which somebody asks it whether it is there
ANSWER_SECONDS = 10.0  # that it has for its answer
# Whatever it answers to others. Nothing but a migration lets a connection wait for so long.
LONGEST_SECONDS = 900.0

# What every PostgreSQL answers before it asks who is there: one octet, whether it would speak TLS.
_ARE_YOU_THERE = struct.pack("!II", 8, 80877103)
# One that is not done when its client gives it up might begin with what lies in its socket once it wakes up, after the
# client has read, over a new connection, that it never happened.
_END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid = ANY(%s) AND datname = current_database() AND usename = current_user"
)

_Value = TypeVar("_Value")


class SilentServerError(psycopg.OperationalError):
    """The server said nothing for so long that the connection was given up."""


class Connection(psycopg.Connection[Any]):
    """psycopg's own, which does not wait for ever for a server that has fallen silent.

    A statement may take long as long as the server answers others, up to `longest` seconds in which it says nothing to
    this connection. `abandoned` gets the number of the server's process where it is given up.
    """

    longest: float = LONGEST_SECONDS
    abandoned: set[int]

    def wait(self, gen: PQGen[_Value], *args: Any, **more: Any) -> _Value:
        """As psycopg's; raises SilentServerError, and the connection is closed."""
        try:
            return super().wait(_watched(gen, self._is_there), *args, **more)
        except SilentServerError:
            self.abandoned.add(self.info.backend_pid)
            self.close()
            raise

    def _is_there(self, since: float) -> bool:
        return time.monotonic() - since < self.longest and _answers(*_peer(self.fileno()))


class LoopConnection(psycopg.AsyncConnection[Any]):
    """The same for an event loop, which goes on while the server is asked whether it is there."""

    longest: float = LONGEST_SECONDS
    abandoned: set[int]
    _question: asyncio.Future[bool] | None = None

    async def wait(self, gen: PQGen[_Value], *args: Any, **more: Any) -> _Value:
        """As psycopg's; raises SilentServerError, and the connection is closed."""
        try:
            return await super().wait(_watched(gen, self._is_there), *args, **more)
        except SilentServerError:
            self.abandoned.add(self.info.backend_pid)
            await self.close()
            raise

    def _is_there(self, since: float) -> bool | None:
        if time.monotonic() - since >= self.longest:
            return False
        if self._question is None:
            self._question = asyncio.get_running_loop().run_in_executor(None, _answers, *_peer(self.fileno()))
        if not self._question.done():
            return None
        question, self._question = self._question, None
        return question.result()


def _watched(gen: PQGen[_Value], is_there: Callable[[float], bool | None]) -> PQGen[_Value]:
    """What `gen` does; `is_there` is asked of a server that has said nothing since then, None is an answer to come."""
    # Costs nothing while the server answers: psycopg says ten times a second that nothing has come.
    since = asked = 0.0
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                since = 0.0
            elif not since:
                since = asked = time.monotonic()
            elif time.monotonic() - asked >= QUIET_SECONDS and (there := is_there(since)) is not None:
                if not there:
                    raise SilentServerError("the server has fallen silent")
                asked = time.monotonic()
            wanted = gen.send(ready)
    except StopIteration as done:
        value: _Value = done.value
        return value


def _peer(fileno: int) -> tuple[int, Any]:
    """Family and address of who is at the other end of this socket."""
    with socket.socket(fileno=os.dup(fileno)) as ours:
        return ours.family, ours.getpeername()


def _answers(family: int, peer: Any) -> bool:
    """Whether who listens there answers anybody."""
    with socket.socket(family, socket.SOCK_STREAM) as other:
        other.settimeout(ANSWER_SECONDS)
        try:
            other.connect(peer)
            other.sendall(_ARE_YOU_THERE)
            # To hang up is an answer, too.
            other.recv(1)
        except OSError:
            return False
    return True


def attend(
    engine: Engine, first: LiteralString, arguments: Mapping[str, Any]
) -> Callable[[], Awaitable[LoopConnection]]:
    """Have all connections of this engine be such; `first` is the statement that each begins with.

    Returns what makes one of the same kind for an event loop, with the `arguments` that the engine has. Whoever is to
    use any of them ends the server's processes that were given up.
    """
    abandoned: set[int] = set()

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, named: Any) -> Connection:
        made: Connection = Connection.connect(*arguments, **named)
        made.abandoned = abandoned
        return made

    # Before SQLAlchemy asks the first of them what isolation it comes back to.
    @event.listens_for(engine, "connect", insert=True)
    def begin(dbapi: Connection, _record: Any) -> None:
        dbapi.autocommit = True
        dbapi.execute(first)
        dbapi.autocommit = False

    @event.listens_for(engine, "checkout")
    def end(dbapi: Connection, _record: Any, _proxy: Any) -> None:
        given_up = list(abandoned)
        if not given_up:
            return
        try:
            dbapi.autocommit = True
            dbapi.execute(_END, [given_up])
            dbapi.autocommit = False
        except psycopg.Error as error:
            raise InvalidatePoolError from error
        abandoned.difference_update(given_up)

    async def connect_loop() -> LoopConnection:
        by_place, by_name = engine.dialect.create_connect_args(engine.url)
        made = await LoopConnection.connect(*by_place, **{**by_name, **arguments, "autocommit": True})
        made.abandoned = abandoned
        await made.execute(first)
        return made

    return connect_loop


async def end_abandoned(connection: LoopConnection) -> None:
    """As every use of one of the engine's connections begins: end what was given up."""
    given_up = list(connection.abandoned)
    if given_up:
        await connection.execute(_END, [given_up])
        connection.abandoned.difference_update(given_up)


def let_last(connection: EngineConnection) -> None:
    """A statement of this connection may take as long as it likes, as long as the server answers others."""
    driver = connection.connection.driver_connection
    if isinstance(driver, Connection):
        driver.longest = float("inf")
