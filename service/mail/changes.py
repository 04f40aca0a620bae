"""What somebody waits for who can only look again once anything has changed."""

from __future__ import annotations

import asyncio


class Changes:
    """Of one thing on one event loop; `waiters` are those who wait for the next."""

    def __init__(self) -> None:
        self.waiters: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        """Wait for the next change; safe to cancel."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.add(waiter)
        try:
            await waiter
        finally:
            self.waiters.discard(waiter)

    def tell(self) -> None:
        """Wake all who wait by now."""
        waiters, self.waiters = self.waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
