"""One worker process: an event loop that stands still between tasks, and what it sends with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from service.delivery.dispatch import Dispatcher
from service.delivery.postman import NoticeSender
from service.pace.places import Places
from service.store import Database, batches


@dataclass(slots=True)
class SendingProcess:
    """Sends one batch, where the worker has a place for bulk work, or one notice at a time."""

    loop: asyncio.AbstractEventLoop
    dispatcher: Dispatcher
    postman: NoticeSender
    places: Places
    database: Database

    def send_batch(self, batch: int) -> bool:
        """Whether the batch was sent here.

        Whoever gives a place free rings for another batch afterwards. A hint that finds no place is put back where that
        ring finds it, and then asks once more: the place may have been given free, and the bell rung, in between.
        """
        sent = self._in_place(batch)
        if sent is None:
            with self.database.begin() as session:
                batches.forget_ring(session, batch)
            sent = self._in_place(batch)
        return bool(sent)

    def _in_place(self, batch: int) -> bool | None:
        with self.places.taken() as free:
            sent = self.loop.run_until_complete(self.dispatcher.send_batch(batch)) if free else None
        if free:
            self.dispatcher.ring_next()
        return sent

    def send_notice(self, notice: int) -> bool:
        """Whether the relay took the notice now."""
        return self.loop.run_until_complete(self.postman.send(notice))

    def close(self) -> None:
        """End the sessions politely; nothing is left uncertain."""
        self.loop.run_until_complete(self.dispatcher.lines.close())
        self.dispatcher.offload.close()
        self.loop.close()
