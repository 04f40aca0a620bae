"""A PostgreSQL that falls silent: how that is noticed, and how a connection to it is given up.

The kernel notices a dead machine and a cut line. Of a server whose processes stand still on a machine that is alive
(frozen, stopped, out of memory) it goes on confirming all that is sent, so whoever waits has to ask by himself.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import event
from sqlalchemy.engine import Connection as EngineConnection
from sqlalchemy.engine import Engine

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
        return super().wait(self._watched(gen), *args, **more)

    def _watched(self, gen: PQGen[_Value]) -> PQGen[_Value]:
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
                elif time.monotonic() - asked >= QUIET_SECONDS:
                    self._give_up_if_silent(since)
                    asked = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as done:
            value: _Value = done.value
            return value

    def _give_up_if_silent(self, since: float) -> None:
        if time.monotonic() - since < self.longest and _answers(self.fileno()):
            return
        self.abandoned.add(self.info.backend_pid)
        self.close()
        raise SilentServerError("the server has fallen silent")


def _answers(fileno: int) -> bool:
    """Whether who is at the other end of this socket answers anybody."""
    with socket.socket(fileno=os.dup(fileno)) as ours:
        family, peer = ours.family, ours.getpeername()
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


def attend(engine: Engine, first: LiteralString) -> None:
    """Have all connections of this engine be such; `first` is the statement that each begins with."""
    abandoned: set[int] = set()

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, named: Any) -> Connection:
        made: Connection = Connection.connect(*arguments, **named)
        made.abandoned = abandoned
        return made

    # Before SQLAlchemy asks the first of them what isolation it comes back to.
    @event.listens_for(engine, "connect", insert=True)
    def begin(dbapi: Connection, _record: Any) -> None:
        given_up = list(abandoned)
        dbapi.autocommit = True
        if given_up:
            dbapi.execute(_END, [given_up])
            abandoned.difference_update(given_up)
        dbapi.execute(first)
        dbapi.autocommit = False


def let_last(connection: EngineConnection) -> None:
    """A statement of this connection may take as long as it likes, as long as the server answers others."""
    driver = connection.connection.driver_connection
    if isinstance(driver, Connection):
        driver.longest = float("inf")
