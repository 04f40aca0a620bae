"""A line of a given round trip: takes connections, and passes octets on both ways after half of it.

python -m benchmarks.proxy PORT TARGET_PORT MILLISECONDS
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import cast

from service.mail.loop import new_event_loop


class End(asyncio.Protocol):
    """One end of a connection; `other` is the far one."""

    def __init__(self, delay: float) -> None:
        self.other: End | None = None
        self._delay = delay
        self.transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()  # what came before the far end was there

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self._delay, self._pass_on, data)

    def _pass_on(self, data: bytes) -> None:
        if self.other is None:
            self._waiting.append(data)
        elif self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def joined(self, other: End) -> None:
        """The far end is there."""
        self.other = other
        while self._waiting:
            self._pass_on(self._waiting.popleft())


class Front(End):
    """The end that took the connection."""

    def __init__(self, target: int, delay: float) -> None:
        super().__init__(delay)
        self._target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        back = End(self._delay)
        back.other = self
        await asyncio.get_running_loop().create_connection(lambda: back, "127.0.0.1", self._target)
        self.joined(back)


async def serve(port: int, target: int, milliseconds: float) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Front(target, milliseconds / 2000), "127.0.0.1", port
    )
    await server.serve_forever()


if __name__ == "__main__":
    new_event_loop().run_until_complete(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
