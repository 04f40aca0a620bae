"""A sending process in this one, with a database of which a test may lose transactions."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
from functools import partial

from service.delivery.dispatch import Dispatcher
from service.delivery.letters import Stationery
from service.delivery.limits import Limits, defaults
from service.delivery.line import LineKeeper, open_line
from service.delivery.offload import Offload
from service.domain.keys import Purpose
from service.domain.tokens import DeliverySigner, LinkSigner
from service.mail.relay import parse_relays
from service.store import DatabaseAwayError
from tests.conftest import KEYRING
from tests.fakes import FakePace
from tests.unit.delivery.parts import PRESS

STATIONERY = Stationery(
    LinkSigner(KEYRING, Purpose.UNSUBSCRIBE), LinkSigner(KEYRING, Purpose.PREFERENCES), DeliverySigner(KEYRING)
)


class Clock:
    """The machine's clock, so far `ahead`."""

    ahead = dt.timedelta(0)

    def now(self):
        return dt.datetime.now(dt.UTC) + self.ahead


class Troubled:
    """A database of which a test may lose transactions, before or after they are committed."""

    def __init__(self, database):
        self._database = database
        self.lose: list[str] = []  # what becomes of the next transactions: "before", "after" or "no"
        self.away = False

    def __getattr__(self, name):
        return getattr(self._database, name)

    @contextlib.contextmanager
    def begin(self):
        if self.away:
            raise DatabaseAwayError("away")
        fate = self.lose.pop(0) if self.lose else "no"
        with self._database.begin() as session:
            yield session
            if fate == "before":
                raise DatabaseAwayError("lost before the commit")
        if fate == "after":
            raise DatabaseAwayError("lost after the commit")

    async def rows_alone(self, statement, parameters):
        """Lost as transactions of several statements are: nothing of it stands, or all."""
        if self.away:
            raise DatabaseAwayError("away")
        fate = self.lose.pop(0) if self.lose else "no"
        if fate == "before":
            raise DatabaseAwayError("lost before the commit")
        rows = await self._database.rows_alone(statement, parameters)
        if fate == "after":
            raise DatabaseAwayError("lost after the commit")
        return rows


class Worker:
    """One sending process in this one; it sends no batch that it is not told of, unless it may for `follow` seconds."""

    def __init__(self, run, data_dir, sink, *, rate=0.0, lease=60.0, urls=None, connections=2, follow=0.0, clock=None):
        self.run = run
        self.database = Troubled(run.database)
        self.pace = FakePace()
        self.stop = False
        self.clock = clock or Clock()
        self.data_dir = data_dir
        relays = parse_relays(urls or f"smtp://127.0.0.1:{sink.port}?tls=none&connections={connections}")
        open_lines = [partial(open_line, run.database, data_dir, one, helo_name="sender.example.org") for one in relays]
        self.limits = Limits(defaults(rate, relays))
        self.lines = LineKeeper(self.database, open_lines)
        self.dispatcher = Dispatcher(
            self.database,
            self.pace,
            STATIONERY,
            PRESS,
            run.bell,
            self.clock,
            self.lines,
            Offload(self.database.run_short),
            lambda: self.stop,
            self.limits,
            lease,
            follow_seconds=follow,
        )

    def send(self, batch=None, meanwhile=None):
        """Send a batch to its end; `meanwhile` runs beside it in a thread of its own."""
        thread = threading.Thread(target=meanwhile or (lambda: None))

        async def send():
            thread.start()
            try:
                return await self.dispatcher.send_batch(batch or self.run.batch_ids()[0])
            finally:
                await self.lines.close()

        try:
            return asyncio.run(send())
        finally:
            thread.join()
            self.dispatcher.offload.close()
