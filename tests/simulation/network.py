"""Connections without sockets: octets that take their time, get lost with a broken line, and remember when they left.

What a process has written is the kernel's: it arrives although the process dies. What a broken line swallows was written
all the same; so the relay's account of what passed the dot reads that too (`SmtpSession.read_what_was_lost`).
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.simulation.relay import Dot, Relay, SmtpSession
from tests.simulation.world import Process, World


class Network:
    """The way from the workers to the relay."""

    def __init__(self, world: World, relay: Relay) -> None:
        self.world = world
        self.relay = relay
        self.links: list[Link] = []
        self.by_fileno: dict[int, Link] = {}
        self.cut_off: set[str] = set()  # names of processes whose packets go nowhere

    async def connect(self, process: Process, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int):
        loop = process.loop
        arrived = loop.create_future()
        relay, world = self.relay, self.world
        refusal = relay.refuses_connection()

        def answer() -> None:
            if not arrived.done():
                if refusal == "refused":
                    arrived.set_exception(ConnectionRefusedError(111, "Connection refused"))
                else:
                    arrived.set_result(None)

        if refusal != "hang":
            world.later(relay.travel(), process, answer)
        await arrived
        protocol = protocol_factory()
        link = Link(self, process, protocol, len(self.links))
        self.links.append(link)
        self.by_fileno[link.number + 1000] = link
        process.on_death.append(link.client_died)
        protocol.connection_made(link)
        world.later(relay.travel(), None, link.session.greet)
        return link, protocol


class _Raw:
    """What `get_extra_info("socket")` gives: enough for a poll."""

    family = None

    def __init__(self, link: Link) -> None:
        self._link = link

    def fileno(self) -> int:
        return -1 if self._link.closed else self._link.number + 1000


class Link(asyncio.Transport):
    """One connection; to the process it is the transport, to the relay the other end."""

    def __init__(self, network: Network, process: Process, protocol: Any, number: int) -> None:
        super().__init__()
        self.network = network
        self.world = network.world
        self.process = process
        self.protocol = protocol
        self.number = number
        self.session = SmtpSession(network.relay, self)
        self.closed = False  # this end
        self.cut = False  # nothing arrives at the relay any more
        self.farewell_heard = False
        self._hears_nothing = False  # replies that are under way are lost with the line
        self._written = 0
        self._times: list[tuple[int, float]] = []  # how far had been written before, and when more was
        self._up: deque[bytes] = deque()
        self._lost = b""
        self._up_at = 0.0
        self._down_at = 0.0
        self._coming: deque[float] = deque()  # when each event for the process reaches its machine
        self._held: list[bytes] = []  # in the process, since the kernel's buffer is full
        self._raw = _Raw(self)

    # For the process

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        if self.closed or not data:
            return
        self._times.append((self._written, self.world.now))
        self._written += len(data)
        if self._held:
            self._held.append(data)
            return
        if self.network.relay.buffer_is_full():
            taken = self.world.rng.randrange(len(data))
            self._held.append(data[taken:])
            data = data[:taken]
            self.protocol.pause_writing()
            self.world.later(self.world.rng.uniform(0.001, 3.0), self.process, self._make_room)
        self._send(data)

    def _make_room(self) -> None:
        if self.closed:
            return
        held, self._held = b"".join(self._held), []
        self._send(held)
        self.protocol.resume_writing()

    def _send(self, data: bytes) -> None:
        if not data:
            return
        self._up.append(data)
        self._up_at = max(self._up_at, self.world.now + self.network.relay.travel())
        self.world.at(self._up_at, None, self._arrive)

    def _arrive(self) -> None:
        if not self.cut:
            self.session.take(self._up.popleft())

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._break(lost=self.world.rng.random() < 0.3)
            self.process.loop.call_soon(self.protocol.connection_lost, None)

    close = abort

    def client_died(self) -> None:
        """The kernel closes what the process had open; what it had been given may still arrive."""
        if not self.closed:
            self.closed = True
            self._break(lost=self.world.rng.random() < 0.3)

    # For the relay

    def sent_at(self, offset: int) -> float:
        """When the process handed over the octet at `offset`."""
        return self._times[bisect_right(self._times, (offset, float("inf"))) - 1][1]

    def say(self, data: bytes, delay: float, answered: Dot | None = None, *, farewell: bool = False) -> None:
        """Have octets arrive at the process; with the last of them it knows what became of `answered`."""
        self._down_at = max(self._down_at, self.world.now + delay + self.network.relay.travel())
        self._coming.append(self._down_at)
        self.world.at(self._down_at, self.process, self._hear, data, answered, farewell)

    def _hear(self, data: bytes, answered: Dot | None, farewell: bool) -> None:
        self._coming.popleft()
        if self.closed or self._hears_nothing:
            return
        self.farewell_heard = self.farewell_heard or farewell
        if answered is not None:
            answered.answered_at = self.world.now
        self.protocol.data_received(data)

    def hang_up(self, *, reset: bool) -> None:
        """The relay ends the connection; octets that are under way to it are lost."""
        self._break(lost=True)
        self._down_at = max(self._down_at, self.world.now + self.network.relay.travel())
        self._coming.append(self._down_at)
        self.world.at(self._down_at, self.process, self._end, reset)

    def break_off(self) -> None:
        """The line breaks: both ends learn it, and what was on its way is lost, in part or altogether."""
        if not self.closed:
            self._hears_nothing = self.world.rng.random() < 0.5
            self.hang_up(reset=True)

    def _end(self, reset: bool) -> None:
        self._coming.popleft()
        if self.closed:
            return
        if not reset and self.protocol.eof_received():
            return
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(ConnectionResetError(104, "Connection reset by peer") if reset else None)

    def _break(self, *, lost: bool) -> None:
        """Nothing more gets to the relay, but for what is under way where it is not `lost`."""
        if self.cut:
            return
        if not lost:
            self.world.at(max(self._up_at, self.world.now), None, self.session.hear_the_end)
            return
        self.cut = True
        some = b"".join(self._up)
        self._up.clear()
        taken = 0 if self.session.over else self.world.rng.randrange(len(some) + 1)
        self._lost = some[taken:]
        if taken:
            self.session.take(some[:taken])
        self.session.hear_the_end()

    def waiting_now(self) -> bool:
        """Whether a poll would say that there is something to read, or nothing ever again."""
        return bool(self._coming) and self._coming[0] <= self.world.now

    def unsent(self) -> bytes:
        """What was written and never came to be read."""
        return b"".join((self._lost, *self._up, *self._held))
