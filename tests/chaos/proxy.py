"""A TCP proxy that is a bad network: latency, slices, stalls, resets, half-closes and wrong octets, changed while it runs.

    with Proxy(("127.0.0.1", sink.port)) as proxy:
        proxy.weather.latency = 0.02          # seconds each way
        proxy.weather.slice = 1               # octets to the client in one segment
        proxy.weather.stalled = True          # nothing passes, either way; connections stay open
        proxy.set_trap(Trap(b"COMMIT", "reset-after", times=1))
        proxy.reset()                         # RST on every connection

`upstream` is a host and port, or the path of a Unix socket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_TICK = 0.01


@dataclass
class Weather:
    """What becomes of octets that pass; may be changed at any time, from any thread."""

    latency: float = 0.0
    slice: int = 0  # octets to the client in one segment
    slice_up: int = 0  # octets to the server in one segment
    stalled: bool = False
    corrupt: int = 0  # so many of the next chunks to the client have one wrong octet
    refusing: bool = False  # new connections are reset


@dataclass
class Trap:
    """When a piece of the client's octets holds `pattern`: what happens to that connection.

    `reset` and `drop` happen instead of passing them on; `reset-after` passes them on, waits for an answer, and resets
    instead of giving it back; `half-after` passes them on and closes the way to the client; `stall` holds it for
    `seconds`; `pass` counts only. It is used `times` often, after having let `skip` occasions pass.
    """

    pattern: bytes
    deed: str
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    sprung: int = 0

    def springs(self, octets: bytes) -> bool:
        if self.sprung >= self.times or self.pattern not in octets:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.sprung += 1
        return True


def _refuse(writer: asyncio.StreamWriter) -> None:
    """RST, where there is such a thing."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.family != socket.AF_UNIX and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@dataclass(eq=False)
class _Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    deaf: bool = False  # what the server says now goes nowhere, and breaks the connection

    def reset(self) -> None:
        _refuse(self.client)
        _refuse(self.server)

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def half_close(self) -> None:
        if self.client.can_write_eof() and not self.client.is_closing():
            self.client.write_eof()
            self.deaf = True


@dataclass
class Proxy:
    """Runs in a thread of its own; `port` is open when `start` returns."""

    upstream: tuple[str, int] | Path
    host: str = "127.0.0.1"
    port: int = 0
    weather: Weather = field(default_factory=Weather)
    connections: int = 0
    _traps: list[Trap] = field(default_factory=list)
    _links: set[_Link] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(60)

    def _run(self, ready: threading.Event) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, self.host, self.port, limit=1 << 18))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        for link in list(self._links):
            link.reset()
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.close()

    def stop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(60)

    def set_trap(self, *traps: Trap) -> None:
        """These traps and no others from now on."""
        self._call(lambda: self._traps.__setitem__(slice(None), traps))

    def reset(self) -> None:
        """RST on every connection, both ways."""
        self._call(lambda: [link.reset() for link in list(self._links)])

    def half_close(self) -> None:
        """The servers' sides end; the clients' words still pass."""
        self._call(lambda: [link.half_close() for link in list(self._links)])

    def _call(self, function: Callable[[], object]) -> None:
        assert self._loop is not None
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (function(), done.set()))
        assert done.wait(60)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.weather.refusing:
            _refuse(writer)
            return
        try:
            if isinstance(self.upstream, Path):
                there, back = await asyncio.open_unix_connection(str(self.upstream), limit=1 << 18)
            else:
                there, back = await asyncio.open_connection(*self.upstream, limit=1 << 18)
        except OSError:
            _refuse(writer)
            return
        for one in (writer, back):
            raw = one.get_extra_info("socket")
            if raw.family != socket.AF_UNIX:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(writer, back)
        self._links.add(link)
        try:
            await asyncio.gather(self._pump(link, reader, back, up=True), self._pump(link, there, writer, up=False))
        except (OSError, asyncio.CancelledError):
            pass  # a broken connection, or the end of the proxy
        finally:
            self._links.discard(link)
            link.close()

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        """Octets of one direction, each as old as the latency says when it is passed on; an empty one is the end."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def read() -> None:
            octets = b"-"
            while octets:
                try:
                    octets = await reader.read(1 << 16)
                except OSError:
                    octets = b""
                waiting.put_nowait((time.monotonic() + self.weather.latency, octets))

        task = asyncio.ensure_future(read())
        try:
            while True:
                due, octets = await waiting.get()
                while self.weather.stalled or time.monotonic() < due:  # noqa: ASYNC110  # set from other threads
                    await asyncio.sleep(_TICK if self.weather.stalled else max(0.0, due - time.monotonic()))
                if not octets:
                    break
                if not await (self._up(link, octets) if up else self._down(link, octets)):
                    return
        finally:
            task.cancel()
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()

    async def _up(self, link: _Link, octets: bytes) -> bool:
        for trap in self._traps:
            if trap.springs(octets):
                if trap.deed in {"reset", "drop"}:
                    link.reset() if trap.deed == "reset" else link.close()
                    return False
                if trap.deed == "reset-after":
                    link.deaf = True
                elif trap.deed == "half-after":
                    await _write(link.server, octets)
                    link.half_close()
                    return True
                elif trap.deed == "stall":
                    await asyncio.sleep(trap.seconds)
        await _write(link.server, octets, self.weather.slice_up)
        return True

    async def _down(self, link: _Link, octets: bytes) -> bool:
        if link.deaf:
            link.reset()
            return False
        if self.weather.corrupt:
            self.weather.corrupt -= 1
            octets = bytes([octets[0] ^ 0x55]) + octets[1:]
        await _write(link.client, octets, self.weather.slice)
        return True


async def _write(writer: asyncio.StreamWriter, octets: bytes, size: int = 0) -> None:
    step = size or len(octets)
    for at in range(0, len(octets), step):
        writer.write(octets[at : at + step])
        await writer.drain()
        if size:
            await asyncio.sleep(0)
