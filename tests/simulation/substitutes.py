"""Every place where the code under test touches the machine, and what it touches here instead. There are no others.

Set once in a process that simulates; `now` says which world is meant.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import os
import random
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from service import clock
from service.mail import autopsy, channel, conversation, host, journal, wire
from service.mail.letter import Timeouts
from service.store import database as database_module
from service.store import senders
from tests.simulation.world import STARTED, World

MORNING = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
_JULIAN_MORNING = MORNING.timestamp() / 86400 + 2440587.5
# A journal grows by this much; by 4 KB, a few letters make it grow, and reading it back takes no time.
_JOURNAL_OCTETS = 4096


class Now:
    """What the code under test is part of at this moment."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.network: Any = None
        self.host: Any = None  # whose code runs outside of any loop
        self.timeouts = Timeouts()

    def wall(self) -> dt.datetime:
        return MORNING + dt.timedelta(seconds=self.world.now - STARTED)

    def seconds(self) -> float:
        return MORNING.timestamp() + self.world.now - STARTED

    def julian(self, *_: Any) -> float:
        return _JULIAN_MORNING + (self.world.now - STARTED) / 86400

    def here(self) -> Any:
        process = self.world.current
        return process.host if process is not None else self.host


now = Now()


class _Locks:
    """`flock` by simulated process: a lock is free once its holder is dead, or has closed the file."""

    LOCK_EX, LOCK_NB = 2, 4

    def __init__(self) -> None:
        self.held: dict[int, tuple[Any, Any]] = {}
        self.files: list[Any] = []

    def flock(self, file: Any, _how: int) -> None:
        node = os.fstat(file.fileno()).st_ino
        holder, locked = self.held.get(node, (None, None))
        if locked is not None and not locked.closed and (holder is None or holder.alive):
            raise BlockingIOError
        self.held[node] = now.world.current, file
        self.files.append(file)

    def clear(self) -> None:
        """Close what dead processes have left open."""
        for file in self.files:
            file.close()
        self.files.clear()
        self.held.clear()


locks = _Locks()


class _Poll:
    """`select.poll` over virtual sockets."""

    def __init__(self) -> None:
        self._number = -1

    def register(self, number: int, _events: int) -> None:
        self._number = number

    def poll(self, _wait: float) -> list[int]:
        return [1] if now.network.by_fileno[self._number].waiting_now() else []


class _Boot:
    def read_text(self, **_: Any) -> str:
        return now.here().boot


class _Os:
    """`os` for the journal: a disk that may be full."""

    @staticmethod
    def posix_fallocate(file: int, offset: int, octets: int) -> None:
        if now.here().disk_full:
            raise OSError(28, "No space left on device")
        os.ftruncate(file, offset + octets)


def _namespace(module: Any, **changes: Any) -> types.SimpleNamespace:
    return types.SimpleNamespace(**{**vars(module), **changes})


def _numbered(self: Any) -> int:
    return self._number


def _numbering(init: Any) -> Any:
    def numbered(self: Any, *arguments: Any, **named: Any) -> None:
        self._number = now.world.serial()
        init(self, *arguments, **named)

    return numbered


def _session_now(_session: Any) -> dt.datetime:
    return now.wall()


@contextmanager
def substituted() -> Iterator[None]:
    """Put everything in its place, and back."""
    with (
        warnings.catch_warnings(),
        mock.patch.multiple(
            clock,
            time=types.SimpleNamespace(
                CLOCK_BOOTTIME=7, clock_gettime=lambda _which: now.world.now, monotonic=lambda: now.world.now
            ),
        ),
        mock.patch.multiple(
            journal,
            time=types.SimpleNamespace(time=now.seconds, time_ns=lambda: now.world.serial() + (1 << 40)),
            fcntl=locks,
            os=_namespace(os, posix_fallocate=_Os.posix_fallocate),
            _CHUNK=_JOURNAL_OCTETS,
        ),
        mock.patch.multiple(autopsy, fcntl=locks, _written_at=lambda path: path.name),
        mock.patch.multiple(channel, select=types.SimpleNamespace(poll=_Poll, POLLIN=1, POLLHUP=16, POLLERR=8)),
        mock.patch.multiple(host, _BOOT_ID=_Boot()),
        mock.patch.multiple(wire, Timeouts=lambda: now.timeouts),
        mock.patch.object(database_module.Session, "now", _session_now),
        mock.patch.multiple(senders, secrets=types.SimpleNamespace(randbelow=random.randrange)),
        mock.patch.object(
            # A wire keeps its conversations in a set: their order must not hang on where they lie in memory.
            conversation.Conversation,
            "__init__",
            _numbering(conversation.Conversation.__init__),
        ),
        mock.patch.object(conversation.Conversation, "__hash__", _numbered),
    ):
        # A dead process's coroutines are taken apart, and may leave others that never began.
        warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
        with _limbo():
            yield
            gc.collect()
        gc.collect()


@contextmanager
def _limbo() -> Iterator[None]:
    """A loop for what a dead process's coroutines still begin while they are taken apart, when no loop runs.

    asyncio would make one by itself and keep it, with all that waits there, until somebody sets another: then theirs
    would be found unawaited in a test that knows nothing of them.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def begin(world: World, network: Any, timeouts: Timeouts) -> None:
    """What runs from now on is part of that world."""
    now.world, now.network, now.timeouts, now.host = world, network, timeouts, None
    locks.clear()
    random.seed(world.seed)


def into(connection: Any) -> None:
    """Give an SQLite connection the world's clock and the world's chance."""
    connection.create_function("julianday", 1, now.julian)
    connection.create_function("random", 0, lambda: random.getrandbits(62))
