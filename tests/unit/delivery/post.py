"""Notices in a database, and what sends them."""

import asyncio
import datetime as dt

from service.delivery import notices
from service.delivery.limits import Limits
from service.delivery.line import LineKeeper, open_line
from service.delivery.notice_links import NoticeLinks
from service.delivery.offload import Offload
from service.delivery.postman import NoticeSender
from service.delivery.press import Press
from service.domain.delivery import DeliveryState
from service.domain.keys import Purpose
from service.domain.limits import INSTALLATION, Limit
from service.domain.tokens import ConfirmationSigner, DeliverySigner, LinkSigner, RequestSigner
from service.mail.loop import new_event_loop
from service.mail.relay import Relay
from service.mail.tls import Tls
from service.pace.bucket import PaceAwayError
from service.render.templates import load_templates
from service.store.tables import notices as table
from tests.conftest import KEYRING
from tests.fakes import FakeBell

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
ADDRESS = "operator-canary@example.org"
MINUTE = dt.timedelta(minutes=1)
PARAMETERS = {"week": "2019-W22", "problem": "the relay refuses everything"}


def enqueue(session, bell=None, *, once="trouble:1", address=ADDRESS, now=NOW, parameters=PARAMETERS):
    return notices.enqueue(
        session,
        bell or FakeBell(),
        notices.MAILING_TROUBLE,
        once=once,
        address=address,
        language="en",
        parameters=parameters,
        now=now,
    )


def made(database, **values):
    with database.begin() as session:
        return enqueue(session, **values)


def row(database, notice):
    with database.read() as session:
        return session.execute(table.select().where(table.c.id == notice)).one()


def state(database, notice):
    return DeliveryState(row(database, notice).state)


class FakePace:
    def __init__(self):
        self.taken = []
        self.away = False

    def reserve_all(self, rates, count):
        if self.away:
            raise PaceAwayError("Valkey is away")
        self.taken += [(bucket, rate, count) for bucket, rate in rates.items()]
        return dict.fromkeys(rates, 60.0)


class Post:
    """A notice sender of one process over a real relay, each `send` on its own loop's time."""

    def __init__(self, database, clock, folder, sink, books=None):
        self.database, self.folder, self.sink = database, folder, sink
        self.stopping = False
        self.pace = FakePace()
        self.loop = new_event_loop()
        self.offload = Offload()
        self.lines = LineKeeper(database, [self.open_line])
        self.sender = NoticeSender(
            database=database,
            offload=self.offload,
            pace=self.pace,
            press=Press(load_templates().catalogues, None),
            delivery_ids=DeliverySigner(KEYRING),
            links=NoticeLinks(
                ConfirmationSigner(KEYRING),
                LinkSigner(KEYRING, Purpose.PREFERENCES),
                LinkSigner(KEYRING, Purpose.UNSUBSCRIBE),
                RequestSigner(KEYRING),
            ),
            clock=clock,
            lines=self.lines,
            stopping=lambda: self.stopping,
            limits=Limits({INSTALLATION: Limit(rate=2.0)}),
            books=books,
        )

    def open_line(self):
        relay = Relay("127.0.0.1", self.sink.port, Tls.NONE, connections=2)
        return open_line(self.database, self.folder, relay, helo_name="weekly.example.org")

    def ready(self):
        """Its line to the relay is registered and open."""
        self.loop.run_until_complete(self.lines.ready())

    def send(self, notice):
        return self.loop.run_until_complete(asyncio.wait_for(self.sender.send(notice), 60))

    def close_lines(self):
        self.loop.run_until_complete(self.lines.close())

    def close(self):
        self.close_lines()
        self.offload.close()
        self.loop.close()
