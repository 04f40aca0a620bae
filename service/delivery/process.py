"""One worker process: an event loop that stands still between tasks, and what it sends with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from service.delivery.dispatch import Dispatcher
from service.pace.places import Places
from service.store import Database, batches


@dataclass(slots=True)
class SendingProcess:
    """Runs the sending of batches, one at a time, where the worker has a place for bulk work."""

    loop: asyncio.AbstractEventLoop
    dispatcher: Dispatcher
    places: Places
    database: Database

    def send_batch(self, batch: int) -> bool:
        """Whether the batch was sent here; without a free place the hint is put back where the next one finds it."""
        with self.places.taken() as free:
            if free:
                return self.loop.run_until_complete(self.dispatcher.send_batch(batch))
        with self.database.begin() as session:
            batches.forget_ring(session, batch)
        return False

    def close(self) -> None:
        """End the sessions politely; nothing is left uncertain."""
        self.loop.run_until_complete(self.dispatcher.close())
        self.loop.close()
