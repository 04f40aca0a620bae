"""One worker process: an event loop that stands still between tasks, and what it sends with."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from service.delivery.dispatch import Dispatcher
from service.delivery.postman import NoticeSender
from service.delivery.rest import Rest
from service.pace.places import Places
from service.store import Database, batches

_REST_SECONDS = 5.0


@dataclass(slots=True)
class SendingProcess:
    """Sends one batch, where the worker has a place for bulk work, or one notice at a time.

    After five seconds without work it keeps no connection to the database.
    """

    loop: asyncio.AbstractEventLoop
    dispatcher: Dispatcher
    postman: NoticeSender
    places: Places
    database: Database
    _rest: Rest = field(init=False)

    def __post_init__(self) -> None:
        """From now on it rests."""
        self._rest = Rest(self.database.give_back, _REST_SECONDS)

    def send_batch(self, batch: int) -> bool:
        """Whether the batch was sent here.

        Whoever gives a place free rings for another batch afterwards. A hint that finds no place is put back where that
        ring finds it, and then asks once more: the place may have been given free, and the bell rung, in between.
        """
        with self._work():
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
        with self._work():
            return self.loop.run_until_complete(self.postman.send(notice))

    def _work(self) -> AbstractContextManager[None]:
        return self._rest.interrupted(short=lambda: self.database.scarce)

    def close(self) -> None:
        """End the sessions politely; nothing is left uncertain."""
        with self._work():
            self.loop.run_until_complete(self.dispatcher.lines.close())
            self.dispatcher.offload.close()
            self.loop.close()
